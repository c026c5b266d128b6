//! Stand between the wire and the framework.
//!
//! Here is what every request goes through whatever it asks: its id, its limits, what is refused before any
//! signature is looked at, what web pages may see of the answer, and the line in the log.

use super::{
    algorithm, attributes,
    cors::{self, Ask},
    documents::{self, name},
    facts::{Arrival, percent},
    form,
    held::{self, Coming, Held},
    names::{self, Domains},
    objects::Objects,
    query::{self, Place},
    refusal::{Refusal, escape},
    signed,
    silence::Silence,
    time::basic,
};
use crate::expect;
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_LENGTH, DATE, HeaderName, HeaderValue, RANGE},
};
use s3s::{
    Body, HttpError, HttpRequest, HttpResponse,
    dto::{CORSConfiguration, Range},
    service::S3Service,
};
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
/// A body that does not say its length is held whole before it is put; more is refused.
const MEASURED_BYTES_MAX: usize = 8 << 20;
/// Presigned links live at most a week, as at S3.
const PRESIGNED_SECS_MAX: u64 = 7 * 24 * 3600;
/// Of Amazon's directory buckets; left unread it would make the destination an empty object.
const RENAMED: &str = "x-amz-rename-source";
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const ID_2: HeaderName = HeaderName::from_static("x-amz-id-2");

/// Everything between the wire and the operations.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) service: S3Service,
    pub(super) objects: Objects,
    pub(super) domains: Domains,
    pub(super) held: Held,
}

impl Layer {
    pub(super) async fn call(&self, mut request: HttpRequest, arrival: Arrival) -> Result<HttpResponse, HttpError> {
        let begun = Instant::now();
        let id = fresh_id();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let silence = request.extensions().get::<Silence>().cloned().unwrap_or_default();
        request.extensions_mut().insert(arrival);
        let answer = self.answer(request).await;
        let mut response = match answer {
            // Whatever became of the request is due to that.
            _ if silence.fell() => {
                let message =
                    "Your socket connection to the server was not read from or written to within the timeout period.";
                let mut response = Refusal::bad("RequestTimeout", message).response();
                expect::close(response.headers_mut());
                response
            }
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
                return Err(Refusal::new(status, code, message));
            };
            let mut response = HttpResponse::new(Body::empty());
            *response.headers_mut() = headers;
            return Ok(Ok(response));
        }
        query::check(request.method(), self.place(&request), request.uri().query().unwrap_or(""))?;
        let served = if form::is(&request) { self.form(request).await } else { self.serve(request).await };
        let mut response = match served {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Ok(Err(error)),
            Err(refusal) => refusal.response(),
        };
        if let Some(headers) = self.cors(ask.as_ref(), bucket.as_deref()).await {
            response.headers_mut().extend(headers);
        }
        Ok(Ok(response))
    }

    async fn serve(&self, mut request: HttpRequest) -> Result<Result<HttpResponse, HttpError>, Refusal> {
        date(request.headers_mut());
        range(&mut request);
        if attributes::is_asked(&request) {
            let mut response = self.service.call(request).await;
            response.iter_mut().for_each(attributes::bare_etag);
            return Ok(response);
        }
        if !is_unmeasured(&request) {
            return Ok(self.service.call(request).await);
        }
        let _room = self.held.room(MEASURED_BYTES_MAX).await;
        let body = std::mem::take(request.body_mut());
        let Some(bytes) = Coming::new(body).rest(MEASURED_BYTES_MAX).await? else {
            let message = "A body of more than 8 MiB says its length in Content-Length.";
            return Err(Refusal::new(StatusCode::LENGTH_REQUIRED, "MissingContentLength", message));
        };
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        *request.body_mut() = Body::from(bytes);
        Ok(self.service.call(request).await)
    }

    fn bucket(&self, request: &HttpRequest) -> Option<String> {
        self.named(request).0.map(|bucket| names::split(&bucket).1.to_owned())
    }

    fn place(&self, request: &HttpRequest) -> Place {
        match self.named(request) {
            (None, _) => Place::Service,
            (Some(_), None) => Place::Bucket,
            (Some(_), Some(_)) => Place::Object,
        }
    }

    /// Bucket and key of a request.
    fn named(&self, request: &HttpRequest) -> (Option<String>, Option<String>) {
        let host = request.headers().get(hyper::header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str())).unwrap_or("");
        names::place(&self.domains, host, request.uri().path())
    }

    /// What a bucket's rules answer to a page; nothing where they say nothing, or cannot be had.
    async fn cors(&self, ask: Option<&Ask>, bucket: Option<&str>) -> Option<HeaderMap> {
        let (ask, bucket) = (ask?, bucket?);
        let settings = self.objects.cloud.settings(bucket).await.ok()?;
        ask.answer(&documents::read::<CORSConfiguration>(&settings, name::CORS).ok()??)
    }
}

/// Signed with version 4, a request may name its time in `Date` alone; the framework knows `x-amz-date` only. The time
/// is part of what was signed, whichever header it stands in.
fn date(headers: &mut HeaderMap) {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_fourth = text(hyper::header::AUTHORIZATION).is_some_and(|text| text.starts_with("AWS4-HMAC-SHA256"));
    if !is_fourth || headers.contains_key(AMZ_DATE) {
        return;
    }
    if let Some(basic) = text(DATE).and_then(basic).and_then(|basic| HeaderValue::from_str(&basic).ok()) {
        headers.insert(AMZ_DATE, basic);
    }
}

/// A range that cannot be read, or more than one, is as good as none, as at S3. Where it was signed it cannot be taken
/// away: the framework refuses it.
fn range(request: &mut HttpRequest) {
    let is_signed = || signed::covers(request.headers(), request.uri().query().unwrap_or(""), RANGE.as_str());
    let mut values = request.headers().get_all(RANGE).iter();
    let is_one = match (values.next(), values.next()) {
        (None, _) => return,
        (Some(one), None) => one.to_str().is_ok_and(|text| Range::parse(text).is_ok()),
        _ => false,
    };
    if !is_one && !is_signed() {
        request.headers_mut().remove(RANGE);
    }
}

/// Whether a put's body says nothing of its length, in chunks of HTTP alone: those of S3 say it.
fn is_unmeasured(request: &HttpRequest) -> bool {
    let headers = request.headers();
    *request.method() == Method::PUT
        && headers.contains_key(hyper::header::TRANSFER_ENCODING)
        && held::declared(headers).is_none()
        && !headers.contains_key("x-amz-decoded-content-length")
}

/// What the framework would let through: requests without measure; SigV2, whose MAC is SHA-1 and compared byte by
/// byte; and links valid for ever.
fn check(request: &HttpRequest) -> Result<(), Refusal> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET_BYTES_MAX {
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, "InvalidURI", "The request's target has more than 16 KiB."));
    }
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > HEADERS_BYTES_MAX {
        let message = "Your request header section exceeds the maximum allowed size, 32 KiB.";
        return Err(Refusal::bad("RequestHeaderSectionTooLarge", message));
    }
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("");
    let query = request.uri().query().unwrap_or("");
    if authorization.starts_with("AWS ") || query.split('&').any(|pair| pair.starts_with("AWSAccessKeyId=")) {
        let message = "Signature version 2 is not supported: sign with version 4. Links of boto3 want \
                       Config(signature_version=\"s3v4\"), those of aws s3 presign `aws configure set \
                       default.s3.signature_version s3v4`.";
        return Err(Refusal::bad("InvalidRequest", message));
    }
    if request.headers().contains_key(RENAMED) {
        let message =
            "An object is renamed by copying it and deleting the old one: x-amz-rename-source is not supported.";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message));
    }
    signed::check(request.headers(), query)?;
    algorithm::check(request.headers())?;
    signed::check_region(request.headers(), query)?;
    let expires = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Expires="));
    match expires.map(str::parse::<u64>) {
        None | Some(Ok(1..=PRESIGNED_SECS_MAX)) => Ok(()),
        Some(_) => {
            let message = "X-Amz-Expires must be a number of seconds from 1 up to a week, 604800.";
            Err(Refusal::forbidden("AuthorizationQueryParametersError", message))
        }
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
    let body = match body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")) {
        Some((code, _)) if !body.contains("<Message>") => match message(code, path) {
            Some(message) => format!("{body}<Message>{}</Message>", escape(&message)),
            None => body.to_owned(),
        },
        _ => body.to_owned(),
    };
    let resource = escape(path);
    let text = format!("{body}<Resource>{resource}</Resource><RequestId>{id}</RequestId><HostId>{id}</HostId>{END}");
    *response.body_mut() = Body::from(text);
    response.headers_mut().remove(hyper::header::CONTENT_LENGTH);
}

/// What is said of a code for which the framework has no words.
fn message(code: &str, path: &str) -> Option<String> {
    Some(match code {
        "InvalidBucketName" => {
            let path = percent(path);
            let found = path.strip_prefix('/').unwrap_or(&path).split('/').next().unwrap_or("");
            format!(
                "The specified bucket is not valid: a name has 3 to 63 of a-z, 0-9, hyphen and dot and begins and ends with a letter or digit, found {found:?}"
            )
        }
        "SignatureDoesNotMatch" => "The request signature we calculated does not match the signature you provided. Check the secret of this access key, and that method, host, path, query and signed headers arrive as they were signed, with version 4.".into(),
        "KeyTooLongError" => "Your key is too long: at most 1,024 bytes.".into(),
        "InvalidURI" => "The address could not be read: it is percent-encoded UTF-8.".into(),
        "MissingContentLength" => "The length of the body is said in Content-Length.".into(),
        "IncompleteBody" => "The body has not as many bytes as the Content-Length header says.".into(),
        _ => return None,
    })
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
        check(request).err().map(|refusal| refusal.code)
    }

    #[test]
    fn what_has_no_measure_is_refused() {
        assert_eq!(code(&request("/b/k", &[])), None);
        assert_eq!(code(&request(&format!("/b/{}", "k".repeat(TARGET_BYTES_MAX)), &[])), Some("InvalidURI"));
        let long = "x".repeat(HEADERS_BYTES_MAX);
        assert_eq!(code(&request("/b", &[("x-a", &long)])), Some("RequestHeaderSectionTooLarge"));
        assert_eq!(code(&request("/b", &[("authorization", "AWS a:b")])), Some("InvalidRequest"));
        assert_eq!(code(&request("/b?AWSAccessKeyId=a&Signature=b", &[])), Some("InvalidRequest"));
        assert_eq!(code(&request("/b/k", &[("x-amz-rename-source", "a")])), Some("NotImplemented"));
        assert_eq!(code(&request("/b/k", &[("x-amz-checksum-sha512", "a")])), Some("InvalidRequest"));
        let link = "/b/k?X-Amz-Expires=9&X-Amz-SignedHeaders=host&X-Amz-Signature=a";
        assert_eq!(code(&request(link, &[])), None);
        assert_eq!(code(&request(link, &[("x-amz-copy-source", "/b/secret")])), Some("AccessDenied"));
        for (secs, is) in [("1", true), ("604800", true), ("604801", false), ("0", false), ("-7", false), ("x", false)]
        {
            assert_eq!(code(&request(&format!("/b?X-Amz-Expires={secs}"), &[])).is_none(), is, "{secs}");
        }
    }

    #[test]
    fn a_date_may_stand_in_the_header_of_http() {
        let date = |headers: &[(&str, &str)]| {
            let mut request = request("/b", headers);
            super::date(request.headers_mut());
            request.headers().get(AMZ_DATE).map(|value| value.to_str().unwrap().to_owned())
        };
        let (signed, at) =
            (("authorization", "AWS4-HMAC-SHA256 Credential=a"), ("date", "Wed, 21 Oct 2015 07:28:00 GMT"));
        assert_eq!(date(&[signed, at]).as_deref(), Some("20151021T072800Z"));
        assert_eq!(date(&[signed, at, ("x-amz-date", "20260101T000000Z")]).as_deref(), Some("20260101T000000Z"));
        assert_eq!([date(&[at]), date(&[signed]), date(&[signed, ("date", "yesterday")])], [None, None, None]);
    }

    #[test]
    fn only_a_body_in_chunks_is_unmeasured() {
        let is = |method: &str, headers: &[(&str, &str)]| {
            let mut request = request("/b/k", headers);
            *request.method_mut() = method.parse().unwrap();
            is_unmeasured(&request)
        };
        let chunked = ("transfer-encoding", "chunked");
        assert!(is("PUT", &[chunked]));
        assert!(!is("PUT", &[]) && !is("POST", &[chunked]) && !is("PUT", &[chunked, ("content-length", "3")]));
        assert!(!is("PUT", &[chunked, ("x-amz-decoded-content-length", "3")]));
    }

    #[test]
    fn a_range_that_says_nothing_is_none() {
        let kept = |range: &str, target: &str| {
            let mut request = request(target, &[("range", range)]);
            super::range(&mut request);
            request.headers().contains_key(RANGE)
        };
        for range in ["bytes=0-4", "bytes=5-", "bytes=-3"] {
            assert!(kept(range, "/b/k"), "{range}");
        }
        for range in ["bytes=5-2", "bytes=a-b", "octets=0-1", "bytes=0-1,3-4"] {
            assert!(!kept(range, "/b/k"), "{range}");
            assert!(kept(range, "/b/k?X-Amz-SignedHeaders=host%3Brange&X-Amz-Signature=a"), "{range}");
        }
    }

    #[test]
    fn an_error_names_its_request() {
        let mut response = Refusal::forbidden("AccessDenied", "no").response();
        name_error(&mut response, "0123", "/b/<k>");
        let text = String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap();
        assert!(
            text.ends_with("<Resource>/b/&lt;k&gt;</Resource><RequestId>0123</RequestId><HostId>0123</HostId></Error>"),
            "{text}"
        );
        assert_ne!(fresh_id(), fresh_id());
        for (code, said) in [("InvalidBucketName", "3 to 63"), ("SignatureDoesNotMatch", "Check the secret")] {
            let mut response = HttpResponse::new(Body::from(format!("<Error><Code>{code}</Code></Error>")));
            *response.status_mut() = StatusCode::FORBIDDEN;
            name_error(&mut response, "0", "/B_d/k");
            let text = String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap();
            let said = text.contains(&format!("<Code>{code}</Code><Message>")) && text.contains(said);
            assert!(said && (code != "InvalidBucketName" || text.contains("B_d")), "{text}");
        }
    }
}
