//! Let web pages of other origins use a bucket, as its rules say.
//!
//! Upon `OPTIONS`, the answer is made of the bucket's rules alone. Upon anything else with an `Origin`, the
//! matching rule's headers are added to the answer, whatever that is.

use super::wildcard;
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN, VARY,
    },
};
use s3s::dto::{CORSConfiguration, CORSRule};

/// Headers in one preflight; browsers send a handful.
const HEADERS_MAX: usize = 100;

/// What a page asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    origin: String,
    method: String,
    /// In lower case.
    headers: Vec<String>,
}

impl Ask {
    /// Of a request's headers; nothing where no page sent it.
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Option<Self> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let origin = text(ORIGIN).filter(|origin| !origin.is_empty())?.to_owned();
        let asked = text(ACCESS_CONTROL_REQUEST_METHOD).filter(|method| !method.is_empty());
        let method = match asked {
            Some(asked) => asked.to_owned(),
            // A preflight without a method asks nothing.
            None if method == Method::OPTIONS => return None,
            None => method.as_str().to_owned(),
        };
        let names = text(ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or("").split(',').map(str::trim);
        let headers = names.filter(|name| !name.is_empty()).take(HEADERS_MAX).map(str::to_ascii_lowercase).collect();
        Some(Self { origin, method, headers })
    }

    /// The headers of the first rule that fits; none where no rule does.
    pub(super) fn answer(&self, cors: &CORSConfiguration) -> Option<HeaderMap> {
        let rule = cors.cors_rules.iter().find(|rule| self.fits(rule))?;
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        let is_any = rule.allowed_origins.iter().any(|origin| origin == "*");
        put(ACCESS_CONTROL_ALLOW_ORIGIN, if is_any { "*" } else { &self.origin });
        if !is_any {
            put(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        put(ACCESS_CONTROL_ALLOW_METHODS, &self.method);
        if !self.headers.is_empty() {
            put(ACCESS_CONTROL_ALLOW_HEADERS, &self.headers.join(", "));
        }
        if let Some(exposed) = rule.expose_headers.as_ref().filter(|exposed| !exposed.is_empty()) {
            put(ACCESS_CONTROL_EXPOSE_HEADERS, &exposed.join(", "));
        }
        if let Some(secs) = rule.max_age_seconds {
            put(ACCESS_CONTROL_MAX_AGE, &secs.to_string());
        }
        put(VARY, "Origin, Access-Control-Request-Headers, Access-Control-Request-Method");
        Some(headers)
    }

    fn fits(&self, rule: &CORSRule) -> bool {
        let allows = |header: &String| {
            rule.allowed_headers
                .iter()
                .flatten()
                .any(|pattern| wildcard::matches(&pattern.to_ascii_lowercase(), header))
        };
        rule.allowed_methods.contains(&self.method)
            && rule.allowed_origins.iter().any(|pattern| wildcard::matches(pattern, &self.origin))
            && self.headers.iter().all(allows)
    }
}

/// What a preflight is refused with.
pub(super) fn refusal(ask: Option<&Ask>) -> (StatusCode, &'static str, &'static str) {
    match ask {
        None => (
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "Insufficient information. Origin and Access-Control-Request-Method request headers are needed.",
        ),
        Some(_) => (
            StatusCode::FORBIDDEN,
            "AccessForbidden",
            "CORSResponse: This CORS request is not allowed. No rule of the bucket fits origin, method and headers.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(methods: &[&str], origins: &[&str], headers: &[&str]) -> CORSRule {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        CORSRule {
            allowed_headers: Some(list(headers)),
            allowed_methods: list(methods),
            allowed_origins: list(origins),
            expose_headers: Some(list(&["x-amz-meta-a"])),
            id: None,
            max_age_seconds: Some(60),
        }
    }

    fn ask(method: Method, pairs: &[(&str, &str)]) -> Option<Ask> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Ask::of(&method, &headers)
    }

    fn origin(cors: &CORSConfiguration, method: Method, pairs: &[(&str, &str)]) -> Option<String> {
        let answer = ask(method, pairs)?.answer(cors)?;
        Some(answer[ACCESS_CONTROL_ALLOW_ORIGIN].to_str().unwrap().to_owned())
    }

    #[test]
    fn the_first_rule_that_fits_answers() {
        let cors = CORSConfiguration {
            cors_rules: vec![
                rule(&["GET"], &["*suffix"], &[]),
                rule(&["GET"], &["start*end"], &["x-amz-meta-*"]),
                rule(&["PUT"], &["*.put"], &["*"]),
            ],
        };
        for (method, from, is) in [
            (Method::GET, "foo.suffix", true),
            (Method::GET, "foo.suffix.get", false),
            (Method::GET, "start1end", true),
            (Method::GET, "0start1end", false),
            (Method::PUT, "foo.suffix", false),
            (Method::PUT, "foo.put", true),
        ] {
            assert_eq!(
                origin(&cors, method.clone(), &[("origin", from)]),
                is.then(|| from.to_owned()),
                "{method} {from}"
            );
        }
        let request = ("access-control-request-method", "GET");
        assert!(origin(&cors, Method::PUT, &[("origin", "foo.suffix"), request]).is_some(), "what is asked for counts");
        let headers = ("access-control-request-headers", "X-Amz-Meta-B");
        assert!(origin(&cors, Method::OPTIONS, &[("origin", "startend"), request, headers]).is_some());
        assert!(origin(&cors, Method::OPTIONS, &[("origin", "a.suffix"), request, headers]).is_none());
    }

    #[test]
    fn anybody_is_told_so_without_credentials() {
        let cors = CORSConfiguration { cors_rules: vec![rule(&["GET"], &["*"], &[])] };
        let answer = ask(Method::GET, &[("origin", "http://a")]).unwrap().answer(&cors).unwrap();
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "GET");
        assert_eq!(answer[ACCESS_CONTROL_EXPOSE_HEADERS], "x-amz-meta-a");
        assert!(!answer.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn a_preflight_says_origin_and_method() {
        assert_eq!(ask(Method::OPTIONS, &[]), None);
        assert_eq!(ask(Method::OPTIONS, &[("origin", "a")]), None);
        assert!(ask(Method::OPTIONS, &[("origin", "a"), ("access-control-request-method", "GET")]).is_some());
        assert_eq!(ask(Method::GET, &[]), None);
        assert_eq!(refusal(None).0, StatusCode::BAD_REQUEST);
    }
}
