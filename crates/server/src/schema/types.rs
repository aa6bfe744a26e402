//! The types, read once from the tables in `types/`.
//!
//! A table is a `package`, then its types. A line of a type is the field's number in protobuf (`-` where it has none that is
//! known), its name in JSON, its type, and marks:
//! - `merge=KEY`: a strategic merge patch merges the list by that key; `merge` alone: as a set;
//! - `retain`: the patch may say which keys of the map to keep (`$retainKeys`);
//! - `keys=A,B`: the fields that tell the elements of the list apart;
//! - `pointer`: a zero is another thing than nothing. Other zeros are left out, as Go leaves them out.
//!
//! What follows a ` # ` says what the type or field is for, for `kubectl explain`.
//!
//! A field called `inline` is a message of its own in protobuf, but in JSON its fields stand among the others.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A kind of object, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub struct Type {
    /// `io.k8s.api.core.v1.Service`.
    pub name: String,
    /// What it is for; empty where nobody has said so.
    pub description: &'static str,
    pub fields: Vec<Field>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// In protobuf; 0 if it is not known.
    pub number: u32,
    /// In JSON; [`INLINE`] for the fields of a message that stand among the others.
    pub name: &'static str,
    pub shape: Shape,
    pub value: Value,
    pub merge: Option<Merge>,
    pub retains_keys: bool,
    /// The fields that tell the elements of a list apart.
    pub keys: Vec<&'static str>,
    pub is_pointer: bool,
    /// What it is for; empty where nobody has said so.
    pub description: &'static str,
}

pub const INLINE: &str = "inline";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    One,
    List,
    /// With text for keys.
    Map,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    String,
    Int32,
    Int64,
    Double,
    Bool,
    /// Base64 in JSON.
    Bytes,
    IntOrString,
    Quantity,
    /// Seconds.
    Time,
    /// Microseconds, all six digits.
    MicroTime,
    /// Any JSON.
    Any,
    /// The full name of a type.
    Object(String),
}

/// How a strategic merge patch treats a list that it does not replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Elements with equal values of this field are merged.
    By(&'static str),
    /// Of texts: those of the patch are added.
    Set,
}

impl Type {
    /// Also one that an inlined type brings.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find_map(|field| match &field.value {
            Value::Object(inner) if field.name == INLINE => get(inner)?.field(name),
            _ => (field.name == name).then_some(field),
        })
    }

    /// All fields that JSON has, those of inlined types too.
    pub fn flat(&self) -> Vec<&Field> {
        let inner = |field: &'static str, value: &Value| match value {
            Value::Object(name) if field == INLINE => get(name),
            _ => None,
        };
        self.fields
            .iter()
            .flat_map(|field| match inner(field.name, &field.value) {
                Some(inlined) => inlined.flat(),
                None => vec![field],
            })
            .collect()
    }

    /// The last part of its name.
    pub fn short_name(&self) -> &str {
        short(&self.name)
    }
}

pub fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

/// The type of a full name.
pub fn get(name: &str) -> Option<&'static Type> {
    TYPES.get(name)
}

/// All types, in no order.
pub fn all() -> impl Iterator<Item = &'static Type> {
    TYPES.values()
}

static TYPES: LazyLock<HashMap<String, Type>> = LazyLock::new(|| {
    let types = TABLES.iter().flat_map(|table| parse(table));
    types.map(|found| (found.name.clone(), found)).collect()
});

const TABLES: [&str; 11] = [
    include_str!("types/apps.schema"),
    include_str!("types/authentication.schema"),
    include_str!("types/authorization.schema"),
    include_str!("types/autoscaling.schema"),
    include_str!("types/coordination.schema"),
    include_str!("types/core.schema"),
    include_str!("types/discovery.schema"),
    include_str!("types/events.schema"),
    include_str!("types/meta.schema"),
    include_str!("types/networking.schema"),
    include_str!("types/policy.schema"),
];

fn parse(table: &'static str) -> Vec<Type> {
    let mut package = "";
    let mut types: Vec<Type> = Vec::new();
    for line in table.lines() {
        let (line, description) = line.split_once(" # ").unwrap_or((line, ""));
        let words: Vec<&'static str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["package", name] => package = name,
            ["type", name] => {
                types.push(Type { name: format!("{package}.{name}"), description, fields: Vec::new() });
            }
            [number, name, rest @ ..] => {
                let field = Field { description, ..parse_field(package, number, name, rest) };
                if let Some(last) = types.last_mut() {
                    last.fields.push(field);
                }
            }
            _ => {}
        }
    }
    types
}

fn parse_field(package: &str, number: &str, name: &'static str, rest: &[&'static str]) -> Field {
    let (shape, kind, marks) = match rest {
        ["map", kind, marks @ ..] => (Shape::Map, *kind, marks),
        [kind, marks @ ..] => match kind.strip_prefix("[]") {
            Some(element) => (Shape::List, element, marks),
            None => (Shape::One, *kind, marks),
        },
        [] => (Shape::One, "RawExtension", rest),
    };
    let has = |mark: &str| marks.contains(&mark);
    let of = |prefix: &str| marks.iter().find_map(|mark| mark.strip_prefix(prefix));
    Field {
        number: number.parse().unwrap_or_default(),
        name,
        shape,
        value: parse_value(package, kind),
        merge: of("merge=").map(Merge::By).or_else(|| has("merge").then_some(Merge::Set)),
        retains_keys: has("retain"),
        keys: of("keys=").map(|keys| keys.split(',').collect()).unwrap_or_default(),
        is_pointer: has("pointer"),
        description: "",
    }
}

fn parse_value(package: &str, kind: &str) -> Value {
    match kind {
        "string" => Value::String,
        "int32" => Value::Int32,
        "int64" => Value::Int64,
        "double" => Value::Double,
        "bool" => Value::Bool,
        "bytes" => Value::Bytes,
        "IntOrString" => Value::IntOrString,
        "Quantity" => Value::Quantity,
        "Time" => Value::Time,
        "MicroTime" => Value::MicroTime,
        "RawExtension" | "FieldsV1" => Value::Any,
        name if name.contains('.') => Value::Object(name.to_owned()),
        name => Value::Object(format!("{package}.{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_a_field_names_is_there() {
        let named = all().flat_map(|of| &of.fields).filter_map(|field| match &field.value {
            Value::Object(name) => Some(name),
            _ => None,
        });
        let missing: Vec<&String> = named.filter(|name| get(name).is_none()).collect();
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn no_number_and_no_name_stands_twice_in_a_type() {
        for of in all() {
            let mut numbers: Vec<u32> =
                of.fields.iter().map(|field| field.number).filter(|n| *n > 0).collect();
            let mut names: Vec<&str> = of.flat().iter().map(|field| field.name).collect();
            let counts = (numbers.len(), names.len());
            numbers.sort_unstable();
            numbers.dedup();
            names.sort_unstable();
            names.dedup();
            assert_eq!((numbers.len(), names.len()), counts, "{}", of.name);
        }
    }

    #[test]
    fn a_field_is_found_where_it_is_inlined() {
        let probe = get("io.k8s.api.core.v1.Probe").unwrap();
        assert_eq!(probe.field("httpGet").map(|field| field.number), Some(2));
        let ports = get("io.k8s.api.core.v1.ServiceSpec").unwrap().field("ports").unwrap();
        assert_eq!((ports.shape, ports.merge), (Shape::List, Some(Merge::By("port"))));
    }
}
