//! Protobuf bodies, as typed clients send them, made into JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::check::{microseconds, seconds};
use super::types::{Field, INLINE, Shape, Type, Value, get};

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Messages within messages; pods nest some ten deep.
const MOST_DEPTH: usize = 100;

/// The envelope around an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    pub api_version: String,
    pub kind: String,
    pub raw: &'a [u8],
}

/// A body that is no protobuf, or not of the type that it should be.
pub(super) type Malformed = String;

pub(super) fn envelope(body: &[u8]) -> Result<Envelope<'_>, Malformed> {
    let unknown = body
        .strip_prefix(MAGIC)
        .ok_or("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")?;
    let mut envelope = Envelope::default();
    for part in parts(unknown) {
        match part? {
            (1, Part::Bytes(meta)) => {
                for part in parts(meta) {
                    match part? {
                        (1, Part::Bytes(text)) => envelope.api_version = utf8(text)?,
                        (2, Part::Bytes(text)) => envelope.kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Part::Bytes(raw)) => envelope.raw = raw,
            _ => {}
        }
    }
    Ok(envelope)
}

/// A message of a type, as JSON.
pub(super) fn decode(message: &[u8], of: &Type) -> Result<Map<String, Json>, Malformed> {
    let mut object = Map::new();
    decode_into(message, of, &mut object, 0)?;
    Ok(object)
}

fn decode_into(
    message: &[u8],
    of: &Type,
    object: &mut Map<String, Json>,
    depth: usize,
) -> Result<(), Malformed> {
    if depth > MOST_DEPTH {
        return Err(format!("messages are nested more than {MOST_DEPTH} deep"));
    }
    for part in parts(message) {
        let (number, part) = part?;
        let Some(field) = of.fields.iter().find(|field| field.number == number) else { continue };
        match (field.shape, &field.value) {
            (Shape::One, Value::Object(inner)) if field.name == INLINE => {
                if let Some(inner) = get(inner) {
                    decode_into(part.bytes()?, inner, object, depth + 1)?;
                }
            }
            (Shape::One, _) => {
                if let Some(value) = value(part, field, depth)? {
                    object.insert(field.name.to_owned(), value);
                }
            }
            (Shape::List, _) => {
                let list = object.entry(field.name).or_insert_with(|| Json::Array(Vec::new()));
                if let Json::Array(list) = list {
                    list.push(element(part, &field.value, depth)?);
                }
            }
            (Shape::Map, _) => {
                let (key, value) = entry(part.bytes()?, &field.value, depth)?;
                let map = object.entry(field.name).or_insert_with(|| Json::Object(Map::new()));
                if let Json::Object(map) = map {
                    map.insert(key, value);
                }
            }
        }
    }
    Ok(())
}

/// `None` for a zero that Go would leave out: what is no pointer is on the wire even if nobody has set it.
fn value(part: Part<'_>, field: &Field, depth: usize) -> Result<Option<Json>, Malformed> {
    let value = element(part, &field.value, depth)?;
    let is_zero = match &value {
        Json::String(text) => text.is_empty(),
        Json::Number(number) => number.as_f64() == Some(0.0) && field.value != Value::IntOrString,
        Json::Bool(set) => !set,
        // Optional messages are there only if they are set; others hold nothing if nothing in them is set.
        Json::Object(map) => map.is_empty() && !KEPT_EMPTY.contains(&field.name),
        Json::Null => true,
        Json::Array(_) => false,
    };
    Ok(Some(value).filter(|_| field.is_pointer || !is_zero))
}

/// Messages that say something by being there.
const KEPT_EMPTY: [&str; 7] =
    ["emptyDir", "podAffinity", "nodeAffinity", "podAntiAffinity", "tcpSocket", "securityContext", "running"];

fn element(part: Part<'_>, value: &Value, depth: usize) -> Result<Json, Malformed> {
    Ok(match value {
        Value::String => utf8(part.bytes()?)?.into(),
        Value::Bytes => STANDARD.encode(part.bytes()?).into(),
        // Negative numbers are sent as 64 bits.
        Value::Int32 => (part.varint()?.cast_signed() as i32).into(),
        Value::Int64 => part.varint()?.cast_signed().into(),
        Value::Bool => (part.varint()? != 0).into(),
        Value::Double => part.double()?.into(),
        Value::Quantity => text_of(part.bytes()?, 1)?.into(),
        Value::IntOrString => int_or_string(part.bytes()?)?,
        Value::Time => time(part.bytes()?)?.map_or(Json::Null, |time| seconds(time).into()),
        Value::MicroTime => time(part.bytes()?)?.map_or(Json::Null, |time| microseconds(time).into()),
        // JSON within protobuf.
        Value::Any => {
            let raw = parts(part.bytes()?).find_map(|part| match part {
                Ok((1, Part::Bytes(raw))) => Some(raw),
                _ => None,
            });
            serde_json::from_slice(raw.unwrap_or_default()).unwrap_or(Json::Null)
        }
        Value::Object(name) => {
            let mut object = Map::new();
            if let Some(of) = get(name) {
                decode_into(part.bytes()?, of, &mut object, depth + 1)?;
            }
            Json::Object(object)
        }
    })
}

/// A map is a list of messages with a key and a value.
fn entry(message: &[u8], kind: &Value, depth: usize) -> Result<(String, Json), Malformed> {
    let (mut key, mut found) = (String::new(), None);
    for part in parts(message) {
        match part? {
            (1, Part::Bytes(text)) => key = utf8(text)?,
            (2, part) => found = Some(element(part, kind, depth)?),
            _ => {}
        }
    }
    let empty = || match kind {
        Value::Object(_) => Json::Object(Map::new()),
        _ => "".into(),
    };
    Ok((key, found.unwrap_or_else(empty)))
}

fn text_of(message: &[u8], wanted: u32) -> Result<String, Malformed> {
    for part in parts(message) {
        if let (number, Part::Bytes(text)) = part?
            && number == wanted
        {
            return utf8(text);
        }
    }
    Ok(String::new())
}

fn int_or_string(message: &[u8]) -> Result<Json, Malformed> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for part in parts(message) {
        match part? {
            (1, Part::Varint(kind)) => is_text = kind == 1,
            (2, Part::Varint(value)) => number = value.cast_signed() as i32,
            (3, Part::Bytes(value)) => text = utf8(value)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// `None` for the zero time, which stands for none.
fn time(message: &[u8]) -> Result<Option<Timestamp>, Malformed> {
    let (mut seconds, mut nanoseconds) = (0i64, 0i32);
    for part in parts(message) {
        match part? {
            (1, Part::Varint(value)) => seconds = value.cast_signed(),
            (2, Part::Varint(value)) => nanoseconds = value.cast_signed() as i32,
            _ => {}
        }
    }
    if (seconds, nanoseconds) == (0, 0) {
        return Ok(None);
    }
    Timestamp::new(seconds, nanoseconds).map(Some).map_err(|error| error.to_string())
}

fn utf8(bytes: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a text is not UTF-8".to_owned())
}

/// One field of a message on the wire.
#[derive(Debug, Clone, Copy)]
enum Part<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Part<'a> {
    fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Part::Bytes(bytes) => Ok(bytes),
            _ => Err("proto: wrong wireType for a field of bytes".to_owned()),
        }
    }

    fn varint(self) -> Result<u64, Malformed> {
        match self {
            Part::Varint(value) => Ok(value),
            _ => Err("proto: wrong wireType for a number".to_owned()),
        }
    }

    fn double(self) -> Result<f64, Malformed> {
        match self {
            Part::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err("proto: wrong wireType for a number with a fraction".to_owned()),
        }
    }
}

/// The fields of a message with their numbers, up to the first error.
fn parts(message: &[u8]) -> impl Iterator<Item = Result<(u32, Part<'_>), Malformed>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let part = next_part(&mut rest);
        if part.is_err() {
            rest = &[];
        }
        Some(part)
    })
}

fn next_part<'a>(rest: &mut &'a [u8]) -> Result<(u32, Part<'a>), Malformed> {
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).map_err(|_| "proto: illegal tag")?;
    let part = match tag & 7 {
        0 => Part::Varint(varint(rest)?),
        1 => {
            let bytes: [u8; 8] = take(rest, 8)?.try_into().map_err(|_| UNEXPECTED_END)?;
            Part::Fixed64(u64::from_le_bytes(bytes))
        }
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| UNEXPECTED_END)?;
            Part::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Part::Fixed32)?,
        other => return Err(format!("proto: illegal wireType {other}")),
    };
    Ok((number, part))
}

const UNEXPECTED_END: &str = "unexpected EOF";

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, left) = rest.split_at_checked(length).ok_or(UNEXPECTED_END)?;
    *rest = left;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, left) = rest.split_first().ok_or(UNEXPECTED_END)?;
        *rest = left;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("proto: integer overflow".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    fn number(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    #[test]
    fn a_service_is_read_from_its_wire_form() {
        let port = [
            field(1, b"http"),
            field(2, b"TCP"),
            number(3, 80),
            field(4, &[number(1, 0), number(2, 90)].concat()),
            number(5, 0),
        ]
        .concat();
        let spec = [field(1, &port), field(2, &[field(1, b"app"), field(2, b"web")].concat()), field(3, b"")]
            .concat();
        let metadata = [field(1, b"web"), field(3, b"default"), field(8, &[])].concat();
        let message = [field(1, &metadata), field(2, &spec), field(3, &field(1, &[]))].concat();
        let body = [MAGIC, &field(1, &[field(1, b"v1"), field(2, b"Service")].concat()), &field(2, &message)]
            .concat();
        let envelope = envelope(&body).unwrap();
        assert_eq!((envelope.api_version.as_str(), envelope.kind.as_str()), ("v1", "Service"));
        let service = decode(envelope.raw, get("io.k8s.api.core.v1.Service").unwrap()).unwrap();
        let port = json!({"name": "http", "protocol": "TCP", "port": 80, "targetPort": 90});
        let expected = json!({"metadata": {"name": "web", "namespace": "default"},
            "spec": {"ports": [port], "selector": {"app": "web"}}});
        assert_eq!(Json::Object(service), expected);
    }

    #[test]
    fn a_zero_that_somebody_set_is_kept() {
        let spec = number(1, 0);
        let deployment = decode(&field(2, &spec), get("io.k8s.api.apps.v1.Deployment").unwrap()).unwrap();
        assert_eq!(Json::Object(deployment), json!({"spec": {"replicas": 0}}));
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let body = [MAGIC, &[0x12, 0x7f, 1]].concat();
        assert_eq!(envelope(&body).unwrap_err(), "unexpected EOF");
        assert!(envelope(b"{}").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_can_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes, get("io.k8s.api.core.v1.Pod").unwrap());
            let _ = envelope(&[MAGIC, &bytes].concat());
        }
    }
}
