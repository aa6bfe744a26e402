//! Holds JSON against a type: unknown fields go, wrong types are errors, and what can be written in several ways is written
//! in one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::quantity;
use super::types::{Field, Shape, Type, Value, get, short};

/// What was found besides errors.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// The paths of fields that the type does not have, as in `spec.foo`.
    pub unknown: Vec<String>,
}

/// Checks an object in place. The error is in the words of Go's decoder, which is what users know.
pub(super) fn check(
    object: &mut Map<String, Json>,
    of: &Type,
    findings: &mut Findings,
) -> Result<(), String> {
    check_fields(object, of, "", findings)
}

fn check_fields(
    object: &mut Map<String, Json>,
    of: &Type,
    path: &str,
    findings: &mut Findings,
) -> Result<(), String> {
    object.retain(|_, value| !value.is_null());
    let mut unknown = Vec::new();
    for (name, value) in object.iter_mut() {
        let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match of.field(name) {
            Some(field) => check_field(value, field, of, &inner, findings)?,
            // Every object may say what it is.
            None if path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind") => {
                if !value.is_string() {
                    return Err(mismatch(value, of, name, "string"));
                }
            }
            None => {
                unknown.push(name.clone());
                findings.unknown.push(inner);
            }
        }
    }
    unknown.iter().for_each(|name| drop(object.remove(name)));
    Ok(())
}

fn check_field(
    value: &mut Json,
    field: &Field,
    of: &Type,
    path: &str,
    findings: &mut Findings,
) -> Result<(), String> {
    let place = Place { of, field, path };
    match field.shape {
        Shape::One => check_value(value, &place, path, findings),
        Shape::List => {
            let wrong = mismatch(value, of, path, &place.go_type());
            let list = value.as_array_mut().ok_or(wrong)?;
            for (index, element) in list.iter_mut().enumerate() {
                if element.is_null() {
                    *element = zero(&field.value);
                }
                check_value(element, &place, &format!("{path}[{index}]"), findings)?;
            }
            Ok(())
        }
        Shape::Map => {
            let wrong = mismatch(value, of, path, &place.go_type());
            let map = value.as_object_mut().ok_or(wrong)?;
            for (key, element) in map.iter_mut() {
                if element.is_null() {
                    *element = zero(&field.value);
                }
                check_value(element, &place, &format!("{path}.{key}"), findings)?;
            }
            Ok(())
        }
    }
}

/// Where a value stands.
struct Place<'a> {
    of: &'a Type,
    field: &'a Field,
    path: &'a str,
}

fn check_value(
    value: &mut Json,
    place: &Place<'_>,
    path: &str,
    findings: &mut Findings,
) -> Result<(), String> {
    let wrong = |value: &Json| mismatch(value, place.of, place.path, &place.go_type_of_one());
    match &place.field.value {
        Value::Any => Ok(()),
        Value::String => {
            if value.is_string() {
                Ok(())
            } else {
                Err(wrong(value))
            }
        }
        Value::Bool => {
            if value.is_boolean() {
                Ok(())
            } else {
                Err(wrong(value))
            }
        }
        Value::Double => {
            if value.is_number() {
                Ok(())
            } else {
                Err(wrong(value))
            }
        }
        Value::Int64 => {
            if value.as_i64().is_some() {
                Ok(())
            } else {
                Err(wrong(value))
            }
        }
        Value::Int32 => match value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) {
            true => Ok(()),
            false => Err(wrong(value)),
        },
        Value::IntOrString => {
            let fits = value.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
            if value.is_string() || fits { Ok(()) } else { Err(wrong(value)) }
        }
        Value::Bytes => {
            let text = value.as_str().ok_or_else(|| wrong(value))?;
            STANDARD.decode(text).map(drop).map_err(|error| format!("illegal base64 data in {path}: {error}"))
        }
        Value::Quantity => {
            let text = match &*value {
                Json::String(text) => text.clone(),
                Json::Number(number) => number.to_string(),
                other => return Err(wrong(other)),
            };
            let canonical = quantity::canonical(text.trim()).ok_or_else(|| QUANTITY.to_owned())?;
            *value = canonical.into();
            Ok(())
        }
        Value::Time => {
            let text = value.as_str().ok_or_else(|| wrong(value))?;
            *value = time(text)?.into();
            Ok(())
        }
        Value::MicroTime => {
            let text = value.as_str().ok_or_else(|| wrong(value))?;
            *value = micro_time(text)?.into();
            Ok(())
        }
        Value::Object(name) => {
            let wrong = wrong(value);
            let object = value.as_object_mut().ok_or(wrong)?;
            get(name).map_or(Ok(()), |of| check_fields(object, of, path, findings))
        }
    }
}

const QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Seconds, in UTC.
fn time(text: &str) -> Result<String, String> {
    let parsed: Timestamp = text.parse().map_err(|_| unparsable(text, "2006-01-02T15:04:05Z07:00", text))?;
    Ok(seconds(parsed))
}

pub(super) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(super) fn microseconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

fn micro_time(text: &str) -> Result<String, String> {
    const LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
    let parsed: Timestamp = text.parse().map_err(|_| unparsable(text, LAYOUT, text))?;
    // `2026-01-01T00:00:00` are 19 characters; the fraction follows.
    let rest = text.get(19..).unwrap_or_default();
    let digits =
        rest.strip_prefix('.').map_or(0, |fraction| fraction.bytes().take_while(u8::is_ascii_digit).count());
    if digits != 6 {
        return Err(format!("parsing time {text:?} as {LAYOUT:?}: cannot parse {rest:?} as \".000000\""));
    }
    Ok(microseconds(parsed))
}

fn unparsable(text: &str, layout: &str, rest: &str) -> String {
    format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as \"2006\"")
}

fn zero(value: &Value) -> Json {
    match value {
        Value::Object(_) => Json::Object(Map::new()),
        Value::Int32 | Value::Int64 | Value::Double | Value::IntOrString => 0.into(),
        Value::Bool => false.into(),
        Value::Quantity => "0".into(),
        _ => "".into(),
    }
}

impl Place<'_> {
    fn go_type_of_one(&self) -> String {
        match &self.field.value {
            Value::String | Value::Time | Value::MicroTime => "string".to_owned(),
            Value::Int32 => "int32".to_owned(),
            Value::Int64 => "int64".to_owned(),
            Value::Double => "float64".to_owned(),
            Value::Bool => "bool".to_owned(),
            Value::Bytes => "[]uint8".to_owned(),
            Value::IntOrString => "intstr.IntOrString".to_owned(),
            Value::Quantity => "resource.Quantity".to_owned(),
            Value::Any => "interface {}".to_owned(),
            Value::Object(name) => format!("v1.{}", short(name)),
        }
    }

    fn go_type(&self) -> String {
        match self.field.shape {
            Shape::One => self.go_type_of_one(),
            Shape::List => format!("[]{}", self.go_type_of_one()),
            Shape::Map => format!("map[string]{}", self.go_type_of_one()),
        }
    }
}

fn mismatch(value: &Json, of: &Type, path: &str, go_type: &str) -> String {
    let is_number = matches!(go_type, "int32" | "int64" | "float64");
    let what = match value {
        Json::Null => "null".to_owned(),
        Json::Bool(_) => "bool".to_owned(),
        Json::Number(number) if is_number => format!("number {number}"),
        Json::Number(_) => "number".to_owned(),
        Json::String(_) => "string".to_owned(),
        Json::Array(_) => "array".to_owned(),
        Json::Object(_) => "object".to_owned(),
    };
    format!("json: cannot unmarshal {what} into Go struct field {}.{path} of type {go_type}", of.short_name())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(name: &str, mut value: Json) -> (Result<(), String>, Json, Vec<String>) {
        let mut findings = Findings::default();
        let result = check(value.as_object_mut().unwrap(), get(name).unwrap(), &mut findings);
        (result, value, findings.unknown)
    }

    const SERVICE: &str = "io.k8s.api.core.v1.Service";

    #[test]
    fn unknown_fields_are_named_and_taken_away() {
        let (result, value, unknown) =
            checked(SERVICE, json!({"kind": "Service", "foo": 1, "spec": {"ports": [{"port": 1, "x": 2}]}}));
        assert_eq!(result, Ok(()));
        assert_eq!(unknown, ["foo", "spec.ports[0].x"]);
        assert_eq!(value, json!({"kind": "Service", "spec": {"ports": [{"port": 1}]}}));
    }

    #[test]
    fn wrong_types_are_told_as_go_tells_them() {
        let wrong = |value| checked(SERVICE, value).0.unwrap_err();
        assert_eq!(
            wrong(json!({"spec": {"ports": "x"}})),
            "json: cannot unmarshal string into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort"
        );
        assert_eq!(
            wrong(json!({"metadata": {"name": 1}})),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string"
        );
        assert_eq!(
            wrong(json!({"spec": {"ports": [{"port": 1.5}]}})),
            "json: cannot unmarshal number 1.5 into Go struct field ServicePort.spec.ports[0].port of type int32"
        );
    }

    #[test]
    fn nothing_is_as_good_as_absent() {
        let (_, value, _) =
            checked(SERVICE, json!({"metadata": {"labels": null, "name": "a"}, "status": null}));
        assert_eq!(value, json!({"metadata": {"name": "a"}}));
    }

    #[test]
    fn amounts_and_times_are_written_in_one_way() {
        let node = json!({"metadata": {"creationTimestamp": "2026-01-01T01:00:00.5+01:00"}, "status": {"capacity": {"memory": "1024Ki", "cpu": 2}}});
        let (result, value, _) = checked("io.k8s.api.core.v1.Node", node);
        assert_eq!(result, Ok(()));
        assert_eq!(value["status"]["capacity"], json!({"memory": "1Mi", "cpu": "2"}));
        assert_eq!(value["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
    }

    #[test]
    fn micro_times_need_their_six_digits() {
        let lease =
            |time| checked("io.k8s.api.coordination.v1.Lease", json!({"spec": {"renewTime": time}})).0;
        assert_eq!(lease("2026-01-01T00:00:00.000000Z"), Ok(()));
        assert_eq!(
            lease("2026-01-01T00:00:00Z").unwrap_err(),
            "parsing time \"2026-01-01T00:00:00Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"Z\" as \".000000\""
        );
    }
}
