//! Answer a form as its fields ask: with a page to go to, a status, or nothing.

use super::{super::refusal::escape, parts::Head};
use crate::percent::encode;
use hyper::{
    StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, LOCATION},
};
use s3s::{Body, HttpResponse};

/// How a form is answered once its file is put.
#[derive(Debug)]
pub(super) struct Answer {
    bucket: String,
    key: String,
    /// Where the object is, escaped.
    path: String,
    redirect: Option<String>,
    status: StatusCode,
}

impl Answer {
    pub(super) fn new(head: &Head, bucket: &str, key: &str, path: String) -> Self {
        let redirect = head.field("success_action_redirect").or_else(|| head.field("redirect"));
        // What is no address is as if it were not there, as at S3.
        let is_address = |to: &&str| {
            let begins = ["http://", "https://"].iter().any(|begin| to.starts_with(begin));
            begins && to.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let status = match head.field("success_action_status") {
            Some("200") => StatusCode::OK,
            Some("201") => StatusCode::CREATED,
            _ => StatusCode::NO_CONTENT,
        };
        let redirect = redirect.filter(is_address).map(str::to_owned);
        Self { bucket: bucket.into(), key: key.into(), path, redirect, status }
    }

    /// Of the answer to the put; one that failed stays as it is.
    pub(super) fn of(self, mut response: HttpResponse) -> HttpResponse {
        if !response.status().is_success() {
            return response;
        }
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or("").to_owned();
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.remove(CONTENT_TYPE);
        let mut body = Body::empty();
        let (status, location) = match self.redirect {
            Some(to) => {
                let (to, fragment) =
                    to.split_once('#').map_or((to.as_str(), None), |(to, fragment)| (to, Some(fragment)));
                let sign = if to.contains('?') { '&' } else { '?' };
                let [bucket, key, etag] = [&self.bucket, &self.key, &etag].map(|text| encode(text, false));
                let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
                (StatusCode::SEE_OTHER, format!("{to}{sign}bucket={bucket}&key={key}&etag={etag}{fragment}"))
            }
            None => {
                if self.status == StatusCode::CREATED {
                    let [path, bucket, key, etag] =
                        [&self.path, &self.bucket, &self.key, &etag].map(|text| escape(text));
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
                    body = Body::from(format!(
                        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><PostResponse><Location>{path}</Location><Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>{etag}</ETag></PostResponse>"
                    ));
                }
                (self.status, self.path)
            }
        };
        if let Ok(location) = HeaderValue::from_str(&location) {
            headers.insert(LOCATION, location);
        }
        *response.status_mut() = status;
        *response.body_mut() = body;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(fields: &[(&str, &str)]) -> HttpResponse {
        let head = Head {
            fields: fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..Head::default()
        };
        let mut response = HttpResponse::new(Body::empty());
        response.headers_mut().insert(ETAG, HeaderValue::from_static("\"abc\""));
        Answer::new(&head, "b", "d/k&", "/b/d/k%26".into()).of(response)
    }

    #[test]
    fn a_form_says_how_it_is_answered() {
        let location = |response: &HttpResponse| response.headers()[LOCATION].to_str().unwrap().to_owned();
        let plain = answer(&[("success_action_status", "404")]);
        assert_eq!((plain.status(), location(&plain).as_str()), (StatusCode::NO_CONTENT, "/b/d/k%26"));
        let made = answer(&[("success_action_status", "201")]);
        assert_eq!(made.status(), StatusCode::CREATED);
        let text = String::from_utf8(made.body().bytes().unwrap().to_vec()).unwrap();
        assert!(text.contains("<Key>d/k&amp;</Key><ETag>\"abc\"</ETag>"), "{text}");
        let there = answer(&[("redirect", "http://e/p?x=1#top"), ("success_action_status", "201")]);
        assert_eq!(there.status(), StatusCode::SEE_OTHER);
        assert_eq!(location(&there), "http://e/p?x=1&bucket=b&key=d%2Fk%26&etag=%22abc%22#top");
        assert_eq!(answer(&[("redirect", "javascript:x")]).status(), StatusCode::NO_CONTENT);
    }
}
