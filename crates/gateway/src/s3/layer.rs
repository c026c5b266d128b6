//! Stand between the wire and the framework.
//!
//! Here is what every request goes through whatever it asks: its id, its limits, what is refused before any
//! signature is looked at, what web pages may see of the answer, and the line in the log.

use super::{
    cors::{self, Ask},
    documents::{self, name},
    facts::Arrival,
    names::{self, Domains},
    objects::Objects,
};
use hyper::{HeaderMap, Method, StatusCode, header::{HeaderName, HeaderValue}};
use s3s::{Body, HttpError, HttpRequest, HttpResponse, dto::CORSConfiguration, service::S3Service};
use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// Where whoever watches this door asks whether it is open; no bucket's name begins with a dash.
const HEALTH: &str = "/-/health";
/// Of a request's target: a key of 1 KiB with every byte escaped, and a signature.
const TARGET_BYTES_MAX: usize = 16 << 10;
/// Of all headers: S3 takes 8 KiB; grants to many are longer.
const HEADERS_BYTES_MAX: usize = 32 << 10;
/// Presigned links live at most a week, as at S3.
const PRESIGNED_SECS_MAX: u64 = 7 * 24 * 3600;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const ID_2: HeaderName = HeaderName::from_static("x-amz-id-2");

/// Everything between the wire and the operations.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) service: S3Service,
    pub(super) objects: Objects,
    pub(super) domains: Domains,
}

/// What a request is refused with before it is looked into.
struct Refusal(StatusCode, &'static str, &'static str);

impl Layer {
    pub(super) async fn call(&self, mut request: HttpRequest, arrival: Arrival) -> Result<HttpResponse, HttpError> {
        let begun = Instant::now();
        let id = fresh_id();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        request.extensions_mut().insert(arrival);
        let mut response = match self.answer(request).await {
            Ok(response) => response?,
            Err(refusal) => refusal.response(),
        };
        name_error(&mut response, &id, &path);
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id.clone());
            headers.insert(ID_2, id);
        }
        headers.insert(hyper::header::SERVER, HeaderValue::from_static(hodei_types::PRODUCT));
        // The query stays out: a presigned link is a key.
        tracing::info!(
            target: "s3::access", id, from = %arrival.from, %method, path, status = response.status().as_u16(),
            ms = begun.elapsed().as_millis() as u64, "request"
        );
        Ok(response)
    }

    async fn answer(&self, mut request: HttpRequest) -> Result<Result<HttpResponse, HttpError>, Refusal> {
        if request.uri().path() == HEALTH && matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(Ok(HttpResponse::new(Body::from("ok\n".to_owned()))));
        }
        check(&request)?;
        let headers = request.headers_mut();
        // Said and left empty is not signed.
        if headers.get(hyper::header::AUTHORIZATION).is_some_and(HeaderValue::is_empty) {
            headers.remove(hyper::header::AUTHORIZATION);
        }
        let ask = Ask::of(request.method(), request.headers());
        let bucket = ask.as_ref().and_then(|_| self.bucket(&request));
        if request.method() == Method::OPTIONS {
            let headers = self.cors(ask.as_ref(), bucket.as_deref()).await;
            let Some(headers) = headers else {
                let (status, code, message) = cors::refusal(ask.as_ref());
                return Err(Refusal(status, code, message));
            };
            let mut response = HttpResponse::new(Body::empty());
            *response.headers_mut() = headers;
            return Ok(Ok(response));
        }
        let mut response = match self.service.call(request).await {
            Ok(response) => response,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(headers) = self.cors(ask.as_ref(), bucket.as_deref()).await {
            response.headers_mut().extend(headers);
        }
        Ok(Ok(response))
    }

    fn bucket(&self, request: &HttpRequest) -> Option<String> {
        let host = request.headers().get(hyper::header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str())).unwrap_or("");
        let (bucket, _) = names::place(&self.domains, host, request.uri().path());
        bucket.map(|bucket| names::split(&bucket).1.to_owned())
    }

    /// What a bucket's rules answer to a page; nothing where they say nothing, or cannot be had.
    async fn cors(&self, ask: Option<&Ask>, bucket: Option<&str>) -> Option<HeaderMap> {
        let (ask, bucket) = (ask?, bucket?);
        let settings = self.objects.cloud.settings(bucket).await.ok()?;
        ask.answer(&documents::read::<CORSConfiguration>(&settings, name::CORS).ok()??)
    }
}

/// What the framework would let through: requests without measure; SigV2, whose MAC is SHA-1 and compared byte by
/// byte; and links valid for ever.
fn check(request: &HttpRequest) -> Result<(), Refusal> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET_BYTES_MAX {
        return Err(Refusal(StatusCode::URI_TOO_LONG, "InvalidURI", "The request's target has more than 16 KiB."));
    }
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > HEADERS_BYTES_MAX {
        let message = "Your request header section exceeds the maximum allowed size, 32 KiB.";
        return Err(Refusal(StatusCode::BAD_REQUEST, "RequestHeaderSectionTooLarge", message));
    }
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("");
    let query = request.uri().query().unwrap_or("");
    if authorization.starts_with("AWS ") || query.split('&').any(|pair| pair.starts_with("AWSAccessKeyId=")) {
        let message = "Signature version 2 is not supported: sign with version 4.";
        return Err(Refusal(StatusCode::BAD_REQUEST, "InvalidRequest", message));
    }
    let expires = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Expires="));
    match expires.map(str::parse::<u64>) {
        None | Some(Ok(1..=PRESIGNED_SECS_MAX)) => Ok(()),
        Some(_) => {
            let message = "X-Amz-Expires must be a number of seconds from 1 up to a week, 604800.";
            Err(Refusal(StatusCode::FORBIDDEN, "AuthorizationQueryParametersError", message))
        }
    }
}

impl Refusal {
    fn response(&self) -> HttpResponse {
        let Self(status, code, message) = self;
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        let mut response = HttpResponse::new(Body::from(body));
        *response.status_mut() = *status;
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/xml"));
        response
    }
}

/// Writes into an error what names the request, as clients show it to people.
fn name_error(response: &mut HttpResponse, id: &str, path: &str) {
    const END: &str = "</Error>";
    if !(response.status().is_client_error() || response.status().is_server_error()) {
        return;
    }
    let Some(bytes) = response.body().bytes() else { return };
    let Ok(text) = std::str::from_utf8(&bytes) else { return };
    let Some(body) = text.strip_suffix(END) else { return };
    let resource = escape(path);
    let text = format!("{body}<Resource>{resource}</Resource><RequestId>{id}</RequestId><HostId>{id}</HostId>{END}");
    *response.body_mut() = Body::from(text);
    response.headers_mut().remove(hyper::header::CONTENT_LENGTH);
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Sixteen hex digits, different for each request of a process and hard to guess from another.
fn fresh_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    format!("{:016X}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, headers: &[(&str, &str)]) -> HttpRequest {
        let mut builder = hyper::Request::builder().uri(target);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Body::empty()).unwrap()
    }

    fn code(request: &HttpRequest) -> Option<&'static str> {
        check(request).err().map(|refusal| refusal.1)
    }

    #[test]
    fn what_has_no_measure_is_refused() {
        assert_eq!(code(&request("/b/k", &[])), None);
        assert_eq!(code(&request(&format!("/b/{}", "k".repeat(TARGET_BYTES_MAX)), &[])), Some("InvalidURI"));
        let long = "x".repeat(HEADERS_BYTES_MAX);
        assert_eq!(code(&request("/b", &[("x-a", &long)])), Some("RequestHeaderSectionTooLarge"));
        assert_eq!(code(&request("/b", &[("authorization", "AWS a:b")])), Some("InvalidRequest"));
        assert_eq!(code(&request("/b?AWSAccessKeyId=a&Signature=b", &[])), Some("InvalidRequest"));
        for (secs, is) in [("1", true), ("604800", true), ("604801", false), ("0", false), ("-7", false), ("x", false)] {
            assert_eq!(code(&request(&format!("/b?X-Amz-Expires={secs}"), &[])).is_none(), is, "{secs}");
        }
    }

    #[test]
    fn an_error_names_its_request() {
        let mut response = Refusal(StatusCode::FORBIDDEN, "AccessDenied", "no").response();
        name_error(&mut response, "0123", "/b/<k>");
        let text = String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap();
        assert!(text.ends_with("<Resource>/b/&lt;k&gt;</Resource><RequestId>0123</RequestId><HostId>0123</HostId></Error>"), "{text}");
        assert_ne!(fresh_id(), fresh_id());
    }
}
