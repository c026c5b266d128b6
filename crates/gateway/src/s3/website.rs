//! Show a bucket as a website, to anybody who may read it.
//!
//! Upon a path: the routing rules that ask for a prefix; the object, or the index of the folder; the rules that
//! ask for an error; the error document. A visitor is nobody in particular: what is not public stays unseen.

use super::{
    access::Access,
    body::Exclusive,
    documents::{self, name},
    facts::Arrival,
    names::{self, Domains},
    objects::Objects,
    principal::Caller,
    server::{self, Config, Door},
};
use crate::percent::encode;
use hodei_sdk::Entry;
use hyper::{
    Method, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION},
};
use s3s::{
    Body, HttpRequest, HttpResponse,
    dto::{RoutingRule, StreamingBlob, WebsiteConfiguration},
};
use tokio::net::TcpListener;

/// Serves buckets as websites on `listener` until the task is dropped.
pub async fn serve(listener: TcpListener, objects: Objects, config: Config) {
    let domains = Domains::of(&config.domains);
    let access = Access::of(&objects);
    server::accept(listener, Door::Site(Site { access, domains }), config).await;
}

/// Every bucket that is a website.
#[derive(Clone)]
pub(super) struct Site {
    access: Access,
    domains: Domains,
}

/// What a visitor gets.
enum Page {
    Object { key: String, entry: Box<Entry>, status: StatusCode },
    Elsewhere(StatusCode, String),
    Nothing(StatusCode, &'static str),
}

impl Site {
    pub(super) async fn call(&self, request: HttpRequest, arrival: Arrival) -> HttpResponse {
        let is_head = request.method() == Method::HEAD;
        if !is_head && request.method() != Method::GET {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "a website is read with GET and HEAD");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let host = request.headers().get(hyper::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
        let (Some(bucket), key) = names::place(&self.domains, host, request.uri().path()) else {
            return plain(StatusCode::NOT_FOUND, "name a bucket: BUCKET.DOMAIN, or /BUCKET/ in the path");
        };
        // What stands before a key in the path, for links within the site.
        let base = if self.domains.bucket(host).is_some() { String::new() } else { format!("/{bucket}") };
        let page = self.find(&bucket, key.as_deref().unwrap_or(""), host, &base, arrival).await;
        match page {
            Page::Elsewhere(status, to) => {
                let mut response = plain(status, "elsewhere");
                if let Ok(to) = HeaderValue::from_str(&to) {
                    response.headers_mut().insert(LOCATION, to);
                }
                response
            }
            Page::Nothing(status, why) => plain(status, why),
            Page::Object { key, entry, status } => {
                let known = request.headers().get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
                let is_known = status == StatusCode::OK && known.is_some_and(|tag| tag.trim_matches('"') == entry.etag);
                self.send(&bucket, &key, *entry, if is_known { StatusCode::NOT_MODIFIED } else { status }, is_head)
                    .await
            }
        }
    }

    async fn find(&self, bucket: &str, key: &str, host: &str, base: &str, arrival: Arrival) -> Page {
        let nothing = Page::Nothing(StatusCode::NOT_FOUND, "there is no such website");
        let Ok(settings) = self.access.cloud.settings(bucket).await else { return nothing };
        let Ok(Some(site)) = documents::read::<WebsiteConfiguration>(&settings, name::WEBSITE) else {
            return nothing;
        };
        let scheme = if arrival.is_tls { "https" } else { "http" };
        if let Some(all) = &site.redirect_all_requests_to {
            let scheme = all.protocol.as_ref().map_or(scheme, |protocol| protocol.as_str());
            return Page::Elsewhere(
                StatusCode::MOVED_PERMANENTLY,
                format!("{scheme}://{}/{}", all.host_name, encode(key, true)),
            );
        }
        let rules = site.routing_rules.iter().flatten();
        let to = |rule: &RoutingRule| elsewhere(rule, key, host, base, scheme);
        if let Some(rule) = rules.clone().find(|rule| asks(rule, key, None)) {
            return to(rule);
        }
        let suffix = site.index_document.map(|index| index.suffix).unwrap_or_default();
        let wanted = if key.is_empty() || key.ends_with('/') { format!("{key}{suffix}") } else { key.to_owned() };
        let status = match self.look(bucket, &wanted, arrival).await {
            Ok(entry) => {
                if let Some(redirect) = entry.redirect {
                    return Page::Elsewhere(StatusCode::MOVED_PERMANENTLY, redirect);
                }
                return Page::Object { key: wanted, entry: Box::new(entry), status: StatusCode::OK };
            }
            Err(status) => status,
        };
        if !key.is_empty()
            && !key.ends_with('/')
            && self.look(bucket, &format!("{key}/{suffix}"), arrival).await.is_ok()
        {
            return Page::Elsewhere(StatusCode::FOUND, format!("{base}/{}/", encode(key, true)));
        }
        if let Some(rule) = rules.clone().find(|rule| asks(rule, key, Some(status))) {
            return to(rule);
        }
        if let Some(error) = site.error_document
            && let Ok(entry) = self.look(bucket, &error.key, arrival).await
        {
            return Page::Object { key: error.key, entry: Box::new(entry), status };
        }
        let why = if status == StatusCode::FORBIDDEN { "this is not public" } else { "there is no such page" };
        Page::Nothing(status, why)
    }

    /// An object that anybody may read.
    async fn look(&self, bucket: &str, key: &str, arrival: Arrival) -> Result<Entry, StatusCode> {
        self.access.may_read(&Caller::default(), bucket, key, arrival).await.map_err(|error| {
            error.status_code().filter(|status| status.is_client_error()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
        })?;
        let entry = self.access.cloud.head(bucket, key).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        // What only a customer's key opens is not shown.
        entry.filter(|entry| entry.customer.is_none()).ok_or(StatusCode::NOT_FOUND)
    }

    async fn send(&self, bucket: &str, key: &str, mut entry: Entry, status: StatusCode, is_head: bool) -> HttpResponse {
        let size = entry.size_bytes();
        let has_body = !is_head && status != StatusCode::NOT_MODIFIED;
        let body = if has_body {
            match self.access.cloud.bytes(bucket, key, &entry, None, None).await {
                Ok(bytes) => Body::from(StreamingBlob::wrap(Exclusive::new(bytes))),
                Err(_) => {
                    return plain(StatusCode::SERVICE_UNAVAILABLE, "the page cannot be read now: try again");
                }
            }
        } else {
            Body::empty()
        };
        let mut response = HttpResponse::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put(CONTENT_TYPE, &entry.content_type);
        put(ETAG, &format!("\"{}\"", entry.etag));
        if status != StatusCode::NOT_MODIFIED {
            put(CONTENT_LENGTH, &size.to_string());
        }
        for name in ["cache-control", "content-encoding", "content-language", "content-disposition"] {
            if let Some(value) = entry.meta.remove(&format!(":{name}")) {
                put(HeaderName::from_static(name), &value);
            }
        }
        response
    }
}

/// Whether a rule is about this key, and this error where there was one.
fn asks(rule: &RoutingRule, key: &str, error: Option<StatusCode>) -> bool {
    let condition = rule.condition.as_ref();
    let prefix = condition.and_then(|condition| condition.key_prefix_equals.as_deref()).unwrap_or("");
    let code = condition.and_then(|condition| condition.http_error_code_returned_equals.as_deref());
    let fits = match (code, error) {
        (None, None) => true,
        (Some(code), Some(error)) => code == error.as_str(),
        _ => false,
    };
    fits && key.starts_with(prefix)
}

fn elsewhere(rule: &RoutingRule, key: &str, host: &str, base: &str, scheme: &str) -> Page {
    let prefix = rule.condition.as_ref().and_then(|condition| condition.key_prefix_equals.as_deref()).unwrap_or("");
    let to = &rule.redirect;
    let key = match (&to.replace_key_with, &to.replace_key_prefix_with) {
        (Some(whole), _) => whole.clone(),
        (None, Some(fresh)) => format!("{fresh}{}", key.strip_prefix(prefix).unwrap_or(key)),
        (None, None) => key.to_owned(),
    };
    let status = to.http_redirect_code.as_deref().and_then(|code| code.parse::<StatusCode>().ok());
    let status = status.filter(|status| status.is_redirection()).unwrap_or(StatusCode::MOVED_PERMANENTLY);
    let scheme = to.protocol.as_ref().map_or(scheme, |protocol| protocol.as_str());
    match &to.host_name {
        Some(name) => Page::Elsewhere(status, format!("{scheme}://{name}/{}", encode(&key, true))),
        None => Page::Elsewhere(status, format!("{scheme}://{host}{base}/{}", encode(&key, true))),
    }
}

fn plain(status: StatusCode, why: &str) -> HttpResponse {
    let page = format!("<!doctype html><title>{status}</title><h1>{status}</h1><p>{why}</p>\n");
    let mut response = HttpResponse::new(Body::from(page));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3s::dto::{Condition, Redirect};

    fn rule(prefix: Option<&str>, code: Option<&str>, redirect: Redirect) -> RoutingRule {
        let condition = Condition {
            key_prefix_equals: prefix.map(Into::into),
            http_error_code_returned_equals: code.map(Into::into),
        };
        RoutingRule { condition: Some(condition), redirect }
    }

    #[test]
    fn rules_send_elsewhere_what_they_are_about() {
        let docs = rule(
            Some("docs/"),
            None,
            Redirect { replace_key_prefix_with: Some("documents/".into()), ..Redirect::default() },
        );
        assert!(
            asks(&docs, "docs/a", None)
                && !asks(&docs, "doc", None)
                && !asks(&docs, "docs/a", Some(StatusCode::NOT_FOUND))
        );
        let Page::Elsewhere(status, to) = elsewhere(&docs, "docs/a b", "s.localhost", "", "http") else {
            panic!("no redirect")
        };
        assert_eq!((status, to.as_str()), (StatusCode::MOVED_PERMANENTLY, "http://s.localhost/documents/a%20b"));
        let lost = rule(
            None,
            Some("404"),
            Redirect {
                host_name: Some("example.org".into()),
                http_redirect_code: Some("302".into()),
                replace_key_with: Some("lost.html".into()),
                ..Redirect::default()
            },
        );
        assert!(asks(&lost, "x", Some(StatusCode::NOT_FOUND)) && !asks(&lost, "x", None));
        let Page::Elsewhere(status, to) = elsewhere(&lost, "x", "h", "/b", "https") else { panic!("no redirect") };
        assert_eq!((status, to.as_str()), (StatusCode::FOUND, "https://example.org/lost.html"));
    }
}
