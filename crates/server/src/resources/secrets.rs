//! Secrets. Their data is in base64; `stringData` takes plain texts and is never shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::keys;
use super::table::{AGE, NAME, age, column};
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{Column, Context, Names, Resource, Scope, Update};

#[derive(Debug)]
pub(super) struct Secrets;

const NAMES: Names = Names {
    group: "",
    version: "v1",
    plural: "secrets",
    singular: "secret",
    kind: "Secret",
    short: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: Names::ALL_VERBS,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "What the secret is for", 0),
    column("Data", "string", "The number of keys", 0),
    AGE,
];

impl Resource for Secrets {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.Secret"
    }

    fn default(&self, object: &mut Object) {
        if object.text(&["type"]).is_empty() {
            object.set(&["type"], "Opaque");
        }
        if let Some(Value::Object(texts)) = object.remove(&["stringData"]) {
            for (key, text) in texts {
                let encoded = STANDARD.encode(text.as_str().unwrap_or_default());
                object.set(&["data", &key], encoded);
            }
        }
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        errors(object)
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        let mut found = Vec::new();
        let kind = update.new.text(&["type"]);
        if kind != update.old.text(&["type"]) {
            found.push(FieldError::invalid("type", kind, "field is immutable"));
        }
        found.extend(keys::immutability_errors(update.new, update.old, &["data"]));
        found.extend(errors(update.new));
        found
    }

    fn fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("type", object.text(&["type"]).to_owned())]
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let count = keys::entries(object, "data").count();
        vec![object.name().into(), object.text(&["type"]).into(), count.into(), age(object, now).into()]
    }
}

fn errors(secret: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut bytes = 0_usize;
    for (key, value) in keys::entries(secret, "data") {
        errors.extend(keys::key_errors("data", key));
        bytes = bytes.saturating_add(keys::decoded_length(value));
    }
    if bytes > keys::MOST_BYTES {
        errors.push(FieldError::too_long("data", keys::MOST_BYTES));
    }
    errors.extend(errors_of_type(secret));
    errors
}

/// What secrets of the well-known types must have.
fn errors_of_type(secret: &Object) -> Vec<FieldError> {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let required = |key: &str| FieldError::required(format!("data[{key}]"), "");
    let has = |key: &str| secret.at(&["data", key]).is_some();
    let missing = |keys: &[&str]| keys.iter().filter(|key| !has(key)).map(|key| required(key)).collect();
    match secret.text(&["type"]) {
        "kubernetes.io/service-account-token" => match secret.annotations().get(ACCOUNT) {
            Some(name) if !name.is_empty() => Vec::new(),
            _ => vec![FieldError::required(format!("metadata.annotations[{ACCOUNT}]"), "")],
        },
        "kubernetes.io/dockercfg" => json_errors(secret, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => json_errors(secret, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if has("username") || has("password") => Vec::new(),
        "kubernetes.io/basic-auth" => missing(&["username", "password"]),
        "kubernetes.io/ssh-auth" if secret.text(&["data", "ssh-privatekey"]).is_empty() => {
            vec![required("ssh-privatekey")]
        }
        "kubernetes.io/tls" => missing(&["tls.crt", "tls.key"]),
        _ => Vec::new(),
    }
}

fn json_errors(secret: &Object, key: &str) -> Vec<FieldError> {
    let path = format!("data[{key}]");
    let Some(encoded) = secret.at(&["data", key]).and_then(Value::as_str) else {
        return vec![FieldError::required(path, "")];
    };
    let decoded = STANDARD.decode(encoded).map_err(|error| error.to_string());
    let parsed = decoded.and_then(|bytes| {
        serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes).map_err(|error| error.to_string())
    });
    // The contents are not repeated: they may be shown to, and logged by, those who may not see them.
    parsed
        .err()
        .map(|error| FieldError::invalid(path, "<secret contents redacted>", &error))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{context, object, texts};

    #[test]
    fn plain_texts_become_data() {
        let mut secret = object(json!({"stringData": {"a": "new", "b": "hello"}, "data": {"a": "b2xk"}}));
        Secrets.default(&mut secret);
        assert_eq!(secret, object(json!({"type": "Opaque", "data": {"a": "bmV3", "b": "aGVsbG8="}})));
    }

    #[test]
    fn well_known_types_have_their_keys() {
        let cases = [
            ("Opaque", vec![]),
            ("kubernetes.io/tls", vec!["data[tls.crt]: Required value", "data[tls.key]: Required value"]),
            ("kubernetes.io/dockerconfigjson", vec!["data[.dockerconfigjson]: Required value"]),
            (
                "kubernetes.io/basic-auth",
                vec!["data[username]: Required value", "data[password]: Required value"],
            ),
            (
                "kubernetes.io/service-account-token",
                vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
        ];
        for (kind, expected) in cases {
            let secret = object(json!({"type": kind}));
            assert_eq!(texts(&Secrets.validate_create(&context(), &secret)), expected, "{kind}");
        }
    }

    #[test]
    fn broken_contents_are_not_repeated() {
        let secret = object(json!({"type": "kubernetes.io/dockercfg", "data": {".dockercfg": "aHVzaA=="}}));
        let errors = texts(&Secrets.validate_create(&context(), &secret));
        assert!(errors[0].starts_with("data[.dockercfg]: Invalid value: \"<secret contents redacted>\": "));
    }

    #[test]
    fn the_type_stays() {
        let (old, new) = (object(json!({"type": "Opaque"})), object(json!({"type": "x/y"})));
        let update = Update { old: &old, new: &new, subresource: "" };
        let expected = "type: Invalid value: \"x/y\": field is immutable";
        assert_eq!(texts(&Secrets.validate_update(&context(), update)), [expected]);
    }
}
