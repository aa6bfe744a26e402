//! The same document in protobuf, which is all that kubectl before 1.27 accepts.
//!
//! The messages are those of gnostic's `OpenAPIv2.proto`, as far as our document has anything for them; numbers of fields
//! are from there.

use serde_json::{Map, Value as Json};

/// The document of `/openapi/v2`.
pub(super) fn document(json: &Json) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &json["swagger"]);
    let mut info = Message::default();
    info.text(1, &json["info"]["title"]);
    info.text(2, &json["info"]["version"]);
    out.message(2, info);
    out.message(8, named(&json["paths"], path));
    out.message(9, named(&json["definitions"], schema));
    out.0
}

/// A message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        const LENGTH_DELIMITED: u64 = 2;
        self.varint(u64::from(number) << 3 | LENGTH_DELIMITED);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Leaves out what is no text.
    fn text(&mut self, number: u32, text: &Json) {
        if let Some(text) = text.as_str() {
            self.bytes(number, text.as_bytes());
        }
    }

    fn message(&mut self, number: u32, message: Message) {
        self.bytes(number, &message.0);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Keys that begin with `x-`, whose values are YAML, as all JSON is.
    fn extensions(&mut self, number: u32, of: &Map<String, Json>) {
        for (name, value) in of.iter().filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Message::default();
            any.bytes(2, value.to_string().as_bytes());
            self.message(number, pair(name, any));
        }
    }
}

fn pair(name: &str, value: Message) -> Message {
    let mut pair = Message::default();
    pair.bytes(1, name.as_bytes());
    pair.message(2, value);
    pair
}

/// A map, as the list of its pairs.
fn named(map: &Json, value: fn(&Map<String, Json>) -> Message) -> Message {
    let mut list = Message::default();
    for (name, of) in map.as_object().into_iter().flatten() {
        if let Json::Object(of) = of {
            list.message(1, pair(name, value(of)));
        }
    }
    list
}

fn path(item: &Map<String, Json>) -> Message {
    const METHODS: [(&str, u32); 5] = [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)];
    let mut out = Message::default();
    for (method, number) in METHODS {
        if let Some(Json::Object(of)) = item.get(method) {
            out.message(number, operation(of));
        }
    }
    out
}

fn operation(of: &Map<String, Json>) -> Message {
    let mut out = Message::default();
    for parameter in of.get("parameters").and_then(Json::as_array).into_iter().flatten() {
        let mut query = Message::default();
        query.text(2, &parameter["in"]);
        query.text(4, &parameter["name"]);
        query.text(6, &parameter["type"]);
        // One of several kinds of items, parameters, and parameters without a body.
        let wrapped = [3, 2, 1].into_iter().fold(query, |inner, number| {
            let mut outer = Message::default();
            outer.message(number, inner);
            outer
        });
        out.message(8, wrapped);
    }
    if let Some(responses) = of.get("responses") {
        let responses = named(responses, |of| {
            let (mut value, mut response) = (Message::default(), Message::default());
            response.text(1, of.get("description").unwrap_or(&Json::Null));
            value.message(1, response);
            value
        });
        out.message(9, responses);
    }
    out.extensions(13, of);
    out
}

fn schema(of: &Map<String, Json>) -> Message {
    let mut out = Message::default();
    let null = Json::Null;
    let get = |name: &str| of.get(name).unwrap_or(&null);
    out.text(1, get("$ref"));
    out.text(2, get("format"));
    out.text(4, get("description"));
    // Field 1 of each of these wrappers is the schema, or the first name of a type.
    if let Json::Object(inner) = get("additionalProperties") {
        let mut wrapper = Message::default();
        wrapper.message(1, schema(inner));
        out.message(21, wrapper);
    }
    if get("type").is_string() {
        let mut wrapper = Message::default();
        wrapper.text(1, get("type"));
        out.message(22, wrapper);
    }
    if let Json::Object(inner) = get("items") {
        let mut wrapper = Message::default();
        wrapper.message(1, schema(inner));
        out.message(23, wrapper);
    }
    if get("properties").is_object() {
        out.message(25, named(get("properties"), schema));
    }
    out.extensions(31, of);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_gnostics() {
        let json = json!({
            "swagger": "2.0",
            "definitions": {"a": {"type": "object", "x-k": ["v"]}},
        });
        let expected: &[&[u8]] = &[
            b"\x0a\x032.0",
            b"\x12\x00",
            b"\x42\x00",
            b"\x4a\x23",
            b"\x0a\x21",
            b"\x0a\x01a",
            b"\x12\x1c",
            b"\xb2\x01\x08\x0a\x06object",
            b"\xfa\x01\x0e",
            b"\x0a\x03x-k",
            b"\x12\x07\x12\x05[\"v\"]",
        ];
        assert_eq!(document(&json), expected.concat());
    }
}
