//! Errors as the API tells them: a Status object, whose reason is what clients branch on.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::field::FieldError;

/// A failed request.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    pub code: StatusCode,
    /// Empty for none.
    pub reason: &'static str,
    pub message: String,
    /// `None` leaves the field out, which is not the same as an empty one.
    pub details: Option<Map<String, Value>>,
    /// Of `metadata`, for lists that expired and can go on.
    pub continue_token: Option<String>,
}

/// Which objects an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    /// The plural for 403, 404 and 409; the kind for 422.
    pub kind: &'a str,
    /// Empty for none.
    pub name: &'a str,
}

impl Subject<'_> {
    /// `services`, `endpointslices.discovery.k8s.io`.
    fn qualified(&self) -> String {
        if self.group.is_empty() { self.kind.to_owned() } else { format!("{}.{}", self.kind, self.group) }
    }

    fn details(&self) -> Map<String, Value> {
        let fields = [("name", self.name), ("group", self.group), ("kind", self.kind)];
        let present = fields.into_iter().filter(|(_, value)| !value.is_empty());
        present.map(|(field, value)| (field.to_owned(), value.into())).collect()
    }
}

impl ApiError {
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { code, reason, message: message.into(), details: None, continue_token: None }
    }

    pub fn with_details(mut self, details: Map<String, Value>) -> ApiError {
        self.details = Some(details);
        self
    }

    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub fn unauthorized() -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// `why` completes `services "x" is forbidden: `.
    pub fn forbidden(subject: Subject<'_>, why: &str) -> ApiError {
        let qualified = subject.qualified();
        let name = if subject.name.is_empty() { String::new() } else { format!(" {:?}", subject.name) };
        ApiError::new(StatusCode::FORBIDDEN, "Forbidden", format!("{qualified}{name} is forbidden: {why}"))
            .with_details(subject.details())
    }

    pub fn not_found(subject: Subject<'_>) -> ApiError {
        let message = format!("{} {:?} not found", subject.qualified(), subject.name);
        ApiError::new(StatusCode::NOT_FOUND, "NotFound", message).with_details(subject.details())
    }

    /// A resource or path that this server does not serve.
    pub fn no_such_resource() -> ApiError {
        let message = "the server could not find the requested resource";
        ApiError::new(StatusCode::NOT_FOUND, "NotFound", message).with_details(Map::new())
    }

    pub fn method_not_allowed() -> ApiError {
        let message = "the server does not allow this method on the requested resource";
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).with_details(Map::new())
    }

    pub fn already_exists(subject: Subject<'_>, is_being_deleted: bool) -> ApiError {
        let prefix = if is_being_deleted { "object is being deleted: " } else { "" };
        let message = format!("{prefix}{} {:?} already exists", subject.qualified(), subject.name);
        ApiError::new(StatusCode::CONFLICT, "AlreadyExists", message).with_details(subject.details())
    }

    /// `why` completes `Operation cannot be fulfilled on services "x": `.
    pub fn conflict(subject: Subject<'_>, why: &str) -> ApiError {
        let message =
            format!("Operation cannot be fulfilled on {} {:?}: {why}", subject.qualified(), subject.name);
        ApiError::new(StatusCode::CONFLICT, "Conflict", message).with_details(subject.details())
    }

    /// Somebody else wrote in between.
    pub fn modified(subject: Subject<'_>) -> ApiError {
        ApiError::conflict(
            subject,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// `subject.kind` is the kind here, not the plural. Equal texts are listed once in the message, but not in the causes.
    pub fn invalid(subject: Subject<'_>, errors: &[FieldError]) -> ApiError {
        let mut texts: Vec<String> = Vec::new();
        for error in errors.iter().map(FieldError::to_string) {
            if !texts.contains(&error) {
                texts.push(error);
            }
        }
        let listed = match texts.as_slice() {
            [only] => only.clone(),
            _ => format!("[{}]", texts.join(", ")),
        };
        let causes: Vec<Value> = errors
            .iter()
            .map(|error| json!({"reason": error.reason.as_str(), "message": error.body, "field": error.path}))
            .collect();
        let mut details = subject.details();
        details.insert("causes".to_owned(), causes.into());
        let message = format!("{} {:?} is invalid: {listed}", subject.qualified(), subject.name);
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).with_details(details)
    }

    pub fn expired(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::GONE, "Expired", message)
    }

    pub fn internal(error: impl std::fmt::Display) -> ApiError {
        let causes = json!([{"message": error.to_string()}]);
        let details = Map::from_iter([("causes".to_owned(), causes)]);
        let message = format!("Internal error occurred: {error}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message).with_details(details)
    }

    pub fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// The Status object.
    pub fn to_json(&self) -> Value {
        let metadata =
            self.continue_token.as_ref().map_or_else(|| json!({}), |token| json!({"continue": token}));
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "code": self.code.as_u16(),
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone().into();
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_words_that_kubectl_shows() {
        let web = Subject { group: "", kind: "services", name: "web" };
        assert_eq!(ApiError::not_found(web).message, "services \"web\" not found");
        let slice = Subject { group: "discovery.k8s.io", kind: "endpointslices", name: "x" };
        assert_eq!(ApiError::not_found(slice).message, "endpointslices.discovery.k8s.io \"x\" not found");
        let list = Subject { group: "", kind: "services", name: "" };
        assert_eq!(ApiError::forbidden(list, "no").message, "services is forbidden: no");
        let service = Subject { group: "", kind: "Service", name: "x" };
        let required = FieldError::required("spec.ports", "");
        let twice = ApiError::invalid(service, &[required.clone(), required]);
        assert_eq!(twice.message, "Service \"x\" is invalid: spec.ports: Required value");
        assert_eq!(
            twice.to_json()["details"]["causes"].as_array().map(Vec::len),
            Some(2),
            "each cause is listed"
        );
    }
}
