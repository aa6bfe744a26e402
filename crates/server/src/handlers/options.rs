//! The parameters of requests, checked.

use http::StatusCode;
use serde_json::{Value, json};

use crate::field::FieldError;
use crate::object::Object;
use crate::status::{ApiError, Subject};
use crate::store::Revision;

/// The parameters of a URL, decoded, in their order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a>(pub(super) &'a [(String, String)]);

impl<'a> Query<'a> {
    /// The first value; empty if there is none, which means the same for every parameter but flags.
    pub(super) fn get(self, name: &str) -> &'a str {
        self.given(name).unwrap_or_default()
    }

    fn given(self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `None` if it is absent. A flag without a value is set.
    pub(super) fn flag(self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.given(name) {
            None => Ok(None),
            Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => {
                Err(ApiError::bad_request(format!("strconv.ParseBool: parsing {other:?}: invalid syntax")))
            }
        }
    }

    pub(super) fn number(self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
            }),
        }
    }

    fn all(self, name: &str) -> Vec<&'a str> {
        self.0
            .iter()
            .filter(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| &**value)
            .collect()
    }
}

/// What is to become of fields that a kind does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Of create, update and patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriteOptions {
    pub(super) dry_run: bool,
    pub(super) field_validation: FieldValidation,
}

impl WriteOptions {
    /// `kind` is that of the options, for the error.
    pub(super) fn parse(query: Query<'_>, kind: &str) -> Result<WriteOptions, ApiError> {
        let mut errors = Vec::new();
        if kind == "PatchOptions" && query.flag("force")?.is_some() {
            errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        let dry_run = dry_run(&query.all("dryRun"), &mut errors);
        check_field_manager(query.get("fieldManager"), &mut errors);
        let field_validation = match query.get("fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported("fieldValidation", other, &supported));
                FieldValidation::Strict
            }
        };
        check(kind, &errors)?;
        Ok(WriteOptions { dry_run, field_validation })
    }
}

/// Whether nothing is to be stored.
fn dry_run(values: &[&str], errors: &mut Vec<FieldError>) -> bool {
    if values.iter().any(|value| *value != "All") {
        errors.push(FieldError::not_supported("dryRun", json!(values), &["All"]));
    }
    !values.is_empty()
}

fn check_field_manager(manager: &str, errors: &mut Vec<FieldError>) {
    const PATH: &str = "fieldManager";
    if manager.len() > 128 {
        errors.push(FieldError::too_long(PATH, 128));
    }
    if let Some((at, bad)) = manager.char_indices().find(|(_, character)| character.is_control()) {
        let code = u32::from(bad);
        let shown: String = manager
            .chars()
            .map(|one| if one.is_control() { format!("\\x{:02x}", u32::from(one)) } else { one.to_string() })
            .collect();
        let mut error = FieldError::invalid(PATH, "", "");
        error.body = format!("Invalid value: \"{shown}\": invalid character U+{code:04X} (at position {at})");
        errors.push(error);
    }
}

/// The 422 of an options object.
fn check(kind: &str, errors: &[FieldError]) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(Subject { group: "meta.k8s.io", kind, name: "" }, errors))
}

/// What becomes of an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// Of delete and deletecollection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DeleteOptions {
    pub(super) dry_run: bool,
    pub(super) grace_seconds: Option<i64>,
    /// `None` leaves what the object's finalizers say.
    pub(super) propagation: Option<Propagation>,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
}

impl DeleteOptions {
    /// From the body, or from the parameters if there is none.
    pub(super) fn parse(body: Option<&Object>, query: Query<'_>) -> Result<DeleteOptions, ApiError> {
        let (fields, dry_run_values) = match body {
            Some(body) => {
                let values =
                    body.list(&["dryRun"]).iter().filter_map(|value| value.as_str().map(str::to_owned));
                (body.clone(), values.collect())
            }
            None => {
                let values: Vec<String> = query.all("dryRun").into_iter().map(str::to_owned).collect();
                (DeleteOptions::of_query(query)?, values)
            }
        };
        let mut errors = Vec::new();
        let values: Vec<&str> = dry_run_values.iter().map(String::as_str).collect();
        let dry_run = dry_run(&values, &mut errors);
        let orphans = fields.at(&["orphanDependents"]).and_then(Value::as_bool);
        let policy = fields.at(&["propagationPolicy"]).and_then(Value::as_str);
        let propagation = match (policy, orphans) {
            (Some(_), Some(_)) => {
                let detail = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(FieldError::invalid("propagationPolicy", policy.unwrap_or_default(), detail));
                None
            }
            (None, orphans) => {
                orphans.map(|yes| if yes { Propagation::Orphan } else { Propagation::Background })
            }
            (Some("Background"), _) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some("Orphan"), _) => Some(Propagation::Orphan),
            (Some(other), _) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported("propagationPolicy", other, &supported));
                None
            }
        };
        check("DeleteOptions", &errors)?;
        let precondition = |field: &str| match fields.text(&["preconditions", field]) {
            "" => None,
            text => Some(text.to_owned()),
        };
        Ok(DeleteOptions {
            dry_run,
            grace_seconds: fields.at(&["gracePeriodSeconds"]).and_then(Value::as_i64),
            propagation,
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
        })
    }

    fn of_query(query: Query<'_>) -> Result<Object, ApiError> {
        let mut fields = Object::default();
        if let Some(seconds) = query.number("gracePeriodSeconds")? {
            fields.set(&["gracePeriodSeconds"], seconds);
        }
        if let Some(orphans) = query.flag("orphanDependents")? {
            fields.set(&["orphanDependents"], orphans);
        }
        let policy = query.get("propagationPolicy");
        if !policy.is_empty() {
            fields.set(&["propagationPolicy"], policy);
        }
        Ok(fields)
    }
}

/// Which state a read wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing that anybody has committed is missing.
    Latest,
    /// Whatever is at hand.
    Any,
    AtLeast(Revision),
    Exactly(Revision),
}

/// The parameter `resourceVersion` of a get.
pub(super) fn wanted_by_get(query: Query<'_>) -> Result<Wanted, ApiError> {
    Ok(match revision(query)? {
        None => Wanted::Latest,
        Some(0) => Wanted::Any,
        Some(revision) => Wanted::AtLeast(revision),
    })
}

fn revision(query: Query<'_>) -> Result<Option<Revision>, ApiError> {
    match query.get("resourceVersion") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {text:?}: {}",
                bad_unsigned(text)
            ))
        }),
    }
}

/// How upstream says that a text is no unsigned number.
pub(super) fn bad_unsigned(text: &str) -> String {
    format!("strconv.ParseUint: parsing {text:?}: invalid syntax")
}

/// Of list and deletecollection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListOptions<'a> {
    /// `None` for everything.
    pub(super) limit: Option<usize>,
    /// Empty for the first page.
    pub(super) continue_token: &'a str,
    pub(super) wanted: Wanted,
}

impl<'a> ListOptions<'a> {
    pub(super) fn parse(query: Query<'a>) -> Result<ListOptions<'a>, ApiError> {
        let version = query.get("resourceVersion");
        let matching = query.get("resourceVersionMatch");
        let continue_token = query.get("continue");
        let mut errors = Vec::new();
        if query.flag("sendInitialEvents")?.is_some() {
            let detail = "sendInitialEvents is forbidden for list";
            errors.push(FieldError::forbidden("sendInitialEvents", detail));
        }
        if !matching.is_empty() {
            const PATH: &str = "resourceVersionMatch";
            let mut forbid = |detail: &str| errors.push(FieldError::forbidden(PATH, detail));
            if version.is_empty() {
                forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if !continue_token.is_empty() {
                forbid("resourceVersionMatch is forbidden when continue is provided");
            }
            if matching == "Exact" && version == "0" {
                forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
            if !matches!(matching, "Exact" | "NotOlderThan") {
                errors.push(FieldError::not_supported(PATH, matching, &["Exact", "NotOlderThan", ""]));
            }
        }
        check("ListOptions", &errors)?;

        let limit =
            query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        let revision = revision(query)?;
        if !continue_token.is_empty() && revision.is_some_and(|revision| revision != 0) {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let wanted = match (revision, matching) {
            (None, _) => Wanted::Latest,
            (Some(0), _) => Wanted::Any,
            (Some(revision), "Exact") => Wanted::Exactly(revision),
            (Some(revision), "") if limit.is_some() => Wanted::Exactly(revision),
            (Some(revision), _) => Wanted::AtLeast(revision),
        };
        // What is answered out of memory is answered whole: clients that ask for "any state" in pages rely on it.
        let limit = if wanted == Wanted::Any && continue_token.is_empty() { None } else { limit };
        Ok(ListOptions { limit, continue_token, wanted })
    }
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// With an event for each object there is.
    State(Wanted),
    /// With what comes after a revision; `None` for the latest.
    After(Option<Revision>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WatchOptions {
    pub(super) begin: Begin,
    /// After the initial state comes a bookmark that says so.
    pub(super) marks_initial_end: bool,
    pub(super) bookmarks: bool,
    pub(super) timeout_seconds: Option<u64>,
}

impl WatchOptions {
    pub(super) fn parse(query: Query<'_>) -> Result<WatchOptions, ApiError> {
        let matching = query.get("resourceVersionMatch");
        let initial = query.flag("sendInitialEvents")?;
        let mut errors = Vec::new();
        const PATH: &str = "resourceVersionMatch";
        if initial.is_some() && matching.is_empty() {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(FieldError::forbidden(PATH, detail));
        }
        if !matching.is_empty() {
            if initial.is_none() {
                let detail =
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(FieldError::forbidden(PATH, detail));
            }
            if matching != "NotOlderThan" {
                errors.push(FieldError::not_supported(PATH, matching, &["NotOlderThan"]));
            }
            if !query.get("continue").is_empty() {
                let detail = "resourceVersionMatch is forbidden when continue is provided";
                errors.push(FieldError::forbidden(PATH, detail));
            }
        }
        check("ListOptions", &errors)?;

        let bookmarks = query.flag("allowWatchBookmarks")?.unwrap_or(false);
        let text = query.get("resourceVersion");
        let revision = match text {
            "" => None,
            text => Some(
                text.parse::<Revision>()
                    .map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "", bad_unsigned(text)))?,
            ),
        };
        let begin = match (initial, revision) {
            (Some(false), None | Some(0)) => Begin::After(None),
            (Some(false), Some(revision)) => Begin::After(Some(revision)),
            (_, None) => Begin::State(Wanted::Latest),
            (_, Some(0)) => Begin::State(Wanted::Any),
            (Some(true), Some(revision)) => Begin::State(Wanted::AtLeast(revision)),
            (None, Some(revision)) => Begin::After(Some(revision)),
        };
        Ok(WatchOptions {
            begin,
            marks_initial_end: initial == Some(true) && bookmarks,
            bookmarks,
            timeout_seconds: query
                .number("timeoutSeconds")?
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0),
        })
    }
}
