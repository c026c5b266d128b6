//! Refuse what is refused before the framework is asked.

use hyper::{StatusCode, header::HeaderValue};
use s3s::{Body, HttpResponse};
use std::borrow::Cow;

/// What a request is refused with before it is looked into, in S3's words.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    message: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// 400, which most refusals are.
    pub(super) fn bad(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 403
    pub(super) fn forbidden(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    pub(super) fn response(&self) -> HttpResponse {
        let Self { status, code, message } = self;
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{}</Message></Error>",
            escape(message)
        );
        let mut response = HttpResponse::new(Body::from(body));
        *response.status_mut() = *status;
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/xml"));
        response
    }
}

/// Whether XML 1.0 has a place for a character, be it escaped.
pub(super) fn is_xml(one: char) -> bool {
    matches!(one, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// Text within XML; what XML has no place for is left out.
pub(super) fn escape(text: &str) -> String {
    text.chars()
        .filter(|one| is_xml(*one))
        .collect::<String>()
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_text() {
        let response = Refusal::forbidden("AccessDenied", "no <b>&\u{1}\u{ffff}".to_owned()).response();
        let text = String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap();
        assert!(
            text.ends_with("<Error><Code>AccessDenied</Code><Message>no &lt;b&gt;&amp;</Message></Error>"),
            "{text}"
        );
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
}
