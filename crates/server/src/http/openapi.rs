//! The documents that describe the API: `/openapi/v2` and `/openapi/v3`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION, VARY};
use http::{Response, StatusCode};

use super::Query;
use super::negotiation::{Encoding, negotiate_plain};
use super::response::{self, Body};
use crate::registry::Registry;
use crate::schema::openapi::{self, Document};

const JSON: &str = "application/json";
/// With and without the `@` that clients write before the version.
const PROTOBUF_ACCEPTED: &str = "application/com.github.proto-openapi.spec.v2";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Made when somebody asks for one: most never do.
#[derive(Debug)]
pub struct OpenApi {
    registry: Arc<Registry>,
    v2: OnceLock<V2>,
    v3: OnceLock<V3>,
}

#[derive(Debug)]
struct V2 {
    json: Tagged,
    protobuf: Tagged,
}

#[derive(Debug)]
struct V3 {
    index: Tagged,
    /// By what follows `/openapi/v3/`.
    documents: BTreeMap<String, Tagged>,
}

#[derive(Debug)]
struct Tagged {
    bytes: Bytes,
    hash: String,
}

impl From<Document> for Tagged {
    fn from(document: Document) -> Tagged {
        Tagged { bytes: document.json.into(), hash: document.hash }
    }
}

impl OpenApi {
    pub fn new(registry: Arc<Registry>) -> OpenApi {
        OpenApi { registry, v2: OnceLock::new(), v3: OnceLock::new() }
    }

    /// The answer for a path; `None` if it is none of these.
    pub fn answer(
        &self,
        path: &str,
        query: &Query,
        accept: &str,
        headers: &HeaderMap,
    ) -> Option<Response<Body>> {
        let rest = path.strip_prefix("/openapi/")?.trim_end_matches('/');
        // kubectl before 1.27 accepts nothing else.
        if rest == "v2" && accept.contains(PROTOBUF_ACCEPTED) {
            return Some(tagged(&self.v2().protobuf, PROTOBUF, headers, "no-cache, private"));
        }
        match negotiate_plain(accept) {
            Ok(Encoding::Json | Encoding::PrettyJson) => {}
            Ok(Encoding::Yaml) | Err(_) => {
                return Some(response::error(&super::negotiation::not_acceptable(false), Encoding::Json));
            }
        }
        if rest == "v2" {
            return Some(tagged(&self.v2().json, JSON, headers, "no-cache, private"));
        }
        let v3 = rest.strip_prefix("v3").filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        let documents = self.v3.get_or_init(|| self.make_v3());
        let name = v3.trim_start_matches('/');
        if name.is_empty() {
            return Some(tagged(&documents.index, JSON, headers, "no-cache, private"));
        }
        let document = documents.documents.get(name)?;
        Some(match query.get("hash") {
            "" => tagged(document, JSON, headers, "no-cache, private"),
            // Whoever knows the hash need never ask again.
            hash if hash == document.hash => tagged(document, JSON, headers, "public, immutable"),
            _ => moved(&format!("/openapi/v3/{name}?hash={}", document.hash)),
        })
    }

    fn v2(&self) -> &V2 {
        self.v2.get_or_init(|| {
            let (document, protobuf) = openapi::v2(&self.registry);
            let json = Tagged::from(document);
            V2 { protobuf: Tagged { bytes: protobuf.into(), hash: json.hash.clone() }, json }
        })
    }

    fn make_v3(&self) -> V3 {
        let mut documents = BTreeMap::new();
        for resource in self.registry.all() {
            let names = resource.names();
            let path = match names.group {
                "" => format!("api/{}", names.version),
                group => format!("apis/{group}/{}", names.version),
            };
            if documents.contains_key(&path) {
                continue;
            }
            if let Some(document) = openapi::v3(&self.registry, names.group, names.version) {
                documents.insert(path, Tagged::from(document));
            }
        }
        V3 { index: openapi::v3_index(&self.registry).into(), documents }
    }
}

fn tagged(
    document: &Tagged,
    content_type: &'static str,
    headers: &HeaderMap,
    cache: &'static str,
) -> Response<Body> {
    let etag = format!("\"{}\"", document.hash);
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut answer = match is_known {
        true => response::whole(StatusCode::NOT_MODIFIED, content_type, Bytes::new()),
        false => response::whole(StatusCode::OK, content_type, document.bytes.clone()),
    };
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    answer
}

fn moved(place: &str) -> Response<Body> {
    let mut answer = response::text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(place) = HeaderValue::from_str(place) {
        answer.headers_mut().insert(LOCATION, place);
    }
    answer
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::Value;

    use super::*;

    async fn get(openapi: &OpenApi, target: &str, accept: &str, etag: &str) -> (u16, HeaderMap, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::from_str(etag).unwrap());
        let answer = openapi.answer(path, &Query::parse(query), accept, &headers).unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn documents_are_found_through_the_index() {
        let registry = Arc::new(Registry::new(crate::resources::all()));
        let openapi = OpenApi::new(registry);
        let (code, _, index) = get(&openapi, "/openapi/v3", "application/json", "").await;
        let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
        assert!(code == 200 && url.starts_with("/openapi/v3/api/v1?hash="), "{url}");
        let (code, headers, document) = get(&openapi, &url, "application/json", "").await;
        assert_eq!((code, &document["openapi"]), (200, &Value::from("3.0.0")));
        assert_eq!(headers[CACHE_CONTROL], "public, immutable");
        let etag = headers[ETAG].to_str().unwrap();
        assert_eq!(get(&openapi, &url, "", etag).await.0, 304);
        let (code, headers, _) = get(&openapi, "/openapi/v3/api/v1?hash=old", "", "").await;
        assert_eq!((code, headers[LOCATION].to_str().unwrap()), (301, url.as_str()));
        assert_eq!(get(&openapi, "/openapi/v2", "", "").await.2["swagger"], "2.0");
        let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        let (code, headers, _) = get(&openapi, "/openapi/v2", protobuf, "").await;
        assert_eq!((code, headers["content-type"].to_str().unwrap()), (200, PROTOBUF));
        assert_eq!(get(&openapi, "/openapi/v3", protobuf, "").await.0, 406);
        assert!(openapi.answer("/openapi/v3/apis/nope", &Query::default(), "", &HeaderMap::new()).is_none());
        assert!(openapi.answer("/openapi/v31", &Query::default(), "", &HeaderMap::new()).is_none());
    }
}
