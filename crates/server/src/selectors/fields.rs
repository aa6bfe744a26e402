//! `k=v`, `k==v`, `k!=v`; commas mean "and", a backslash takes `,`, `=` and `\` as they are.

use crate::registry::{Resource, Scope};
use crate::store::Key;

/// One term of a field selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldTerm {
    field: String,
    value: String,
    is_equal: bool,
}

impl FieldTerm {
    pub(super) fn name(name: &str) -> FieldTerm {
        FieldTerm { field: "metadata.name".to_owned(), value: name.to_owned(), is_equal: true }
    }

    /// Whether objects of the resource can be selected by the field; the error is the text for the client.
    pub(super) fn check(&self, resource: &dyn Resource) -> Result<(), String> {
        let field = self.field.as_str();
        // Resources with fields of their own know exactly which; all others share one rule that knows no scope.
        let names = resource.field_names();
        let is_plain = names.is_empty();
        let is_known = match field {
            "metadata.name" => true,
            "metadata.namespace" => is_plain || resource.names().scope == Scope::Namespaced,
            _ => names.contains(&field),
        };
        match (is_known, is_plain) {
            (true, _) => Ok(()),
            (false, false) => Err(format!("field label not supported: {field}")),
            (false, true) => Err(format!(
                "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )),
        }
    }

    pub(super) fn matches(&self, key: &Key, fields: &[(&'static str, Box<str>)]) -> bool {
        let actual = match self.field.as_str() {
            "metadata.name" => name(key),
            "metadata.namespace" => namespace(key),
            field => fields.iter().find(|(name, _)| *name == field).map_or("", |(_, value)| &**value),
        };
        (actual == self.value) == self.is_equal
    }

    pub(super) fn only_name(&self) -> Option<&str> {
        (self.field == "metadata.name" && self.is_equal).then_some(self.value.as_str())
    }
}

/// The parts of `/registry/GROUP/RESOURCE/[NAMESPACE/]NAME` after the resource.
fn tail(key: &Key) -> &str {
    key.as_str().splitn(5, '/').nth(4).unwrap_or_default()
}

fn name(key: &Key) -> &str {
    tail(key).rsplit_once('/').map_or(tail(key), |(_, name)| name)
}

fn namespace(key: &Key) -> &str {
    tail(key).rsplit_once('/').map_or("", |(namespace, _)| namespace)
}

/// The terms of a selector; the error is the text for the client.
pub(super) fn parse(selector: &str) -> Result<Vec<FieldTerm>, String> {
    let parts = split(selector).into_iter().filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (field, operator, value) = operator(part)
                .ok_or_else(|| format!("invalid selector: '{selector}'; can't understand '{part}'"))?;
            Ok(FieldTerm { field: field.to_owned(), value: unescaped(value)?, is_equal: operator != "!=" })
        })
        .collect()
}

/// Parts between commas that no backslash stands before.
fn split(selector: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut is_escaped = false;
    let mut begin = 0;
    for (at, character) in selector.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ',' => {
                parts.push(selector.get(begin..at).unwrap_or_default());
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(selector.get(begin..).unwrap_or_default());
    parts
}

/// The field, the first operator, and the value.
fn operator(part: &str) -> Option<(&str, &str, &str)> {
    part.char_indices().find_map(|(at, _)| {
        let (field, rest) = part.split_at_checked(at)?;
        let operator = ["!=", "==", "="].into_iter().find(|operator| rest.starts_with(operator))?;
        Some((field, operator, rest.strip_prefix(operator)?))
    })
}

fn unescaped(value: &str) -> Result<String, String> {
    let mut characters = value.chars();
    let mut text = String::with_capacity(value.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => text.push(escaped),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    return Err(format!("invalid field selector: invalid escape sequence: {sequence}"));
                }
            },
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in value: {character}"));
            }
            other => text.push(other),
        }
    }
    Ok(text)
}
