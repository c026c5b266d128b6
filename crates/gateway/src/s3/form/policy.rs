//! Hold a form against the policy it was signed with.
//!
//! The policy says until when it may be used and what each field must be; a field it does not speak of must not be
//! there. The bucket counts as a field always.

use super::{super::refusal::Refusal, parts::Head};
use serde_json::Value;

/// A policy of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// Seconds since 1970.
    until: i64,
    conditions: Vec<Condition>,
}

/// Names of fields in lower case.
#[derive(Debug, PartialEq, Eq)]
enum Condition {
    Is(String, String),
    Begins(String, String),
    /// Bytes of the file, both ends allowed.
    Length(u64, u64),
}

fn invalid(why: impl Into<String>) -> Refusal {
    Refusal::bad("InvalidPolicyDocument", format!("The form's policy is not valid: {}", why.into()))
}

fn denied(why: impl AsRef<str>) -> Refusal {
    Refusal::forbidden("AccessDenied", format!("Invalid according to Policy: {}", why.as_ref()))
}

impl Policy {
    /// Of base64 of JSON, as the field has it.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let base64: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
        let json = base64_simd::STANDARD.decode_to_vec(base64).map_err(|_| invalid("it is no base64"))?;
        let document: Value =
            serde_json::from_slice(&json).map_err(|error| invalid(format!("it is no JSON: {error}")))?;
        let until = document.get("expiration").and_then(Value::as_str).and_then(time);
        let until = until.ok_or_else(|| invalid("its `expiration` is a time like 2026-01-31T12:00:00Z"))?;
        let conditions = document.get("conditions").and_then(Value::as_array);
        let conditions = conditions.ok_or_else(|| invalid("its `conditions` are a list"))?;
        let conditions = conditions.iter().map(|one| {
            Condition::of(one).ok_or_else(|| {
                invalid(format!("a condition is {{field: value}}, [eq or starts-with, $field, value] or [content-length-range, from, to], found {one}"))
            })
        });
        Ok(Self { until, conditions: conditions.collect::<Result<_, _>>()? })
    }

    /// The most bytes the file may have.
    pub(super) fn bytes_max(&self) -> u64 {
        let ranges = self.conditions.iter().filter_map(|condition| match condition {
            Condition::Length(_, max) => Some(*max),
            _ => None,
        });
        ranges.min().unwrap_or(u64::MAX)
    }

    /// Whether what stands before the file is as the policy says.
    pub(super) fn check(&self, head: &Head, bucket: &str, now_secs: i64) -> Result<(), Refusal> {
        if now_secs >= self.until {
            return Err(denied("Policy expired."));
        }
        let field = |name: &str| if name == "bucket" { Some(bucket) } else { head.field(name) };
        if head.field("bucket").is_some_and(|named| named != bucket) {
            return Err(denied("the field bucket names another bucket than the request."));
        }
        for condition in &self.conditions {
            let (name, holds) = match condition {
                Condition::Is(name, value) => (name, field(name) == Some(value)),
                Condition::Begins(name, prefix) => (name, field(name).unwrap_or("").starts_with(prefix.as_str())),
                Condition::Length(..) => continue,
            };
            if !holds {
                return Err(denied(format!("Policy Condition failed: {condition:?} of field {name}")));
            }
        }
        let names = head.fields.iter().map(|(name, _)| name.as_str()).chain(["bucket"]);
        match names.into_iter().find(|name| !is_free(name) && !self.speaks_of(name)) {
            Some(name) => Err(denied(format!("Extra input fields: {name}"))),
            None => Ok(()),
        }
    }

    /// Whether the file has as many bytes as the policy says.
    pub(super) fn check_length(&self, bytes: u64) -> Result<(), Refusal> {
        for condition in &self.conditions {
            match condition {
                Condition::Length(_, max) if bytes > *max => return Err(too_large(*max)),
                Condition::Length(min, _) if bytes < *min => {
                    return Err(Refusal::bad(
                        "EntityTooSmall",
                        format!("The file has {bytes} bytes, of at least {min}."),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn speaks_of(&self, name: &str) -> bool {
        self.conditions.iter().any(|condition| match condition {
            Condition::Is(field, _) | Condition::Begins(field, _) => field == name,
            Condition::Length(..) => false,
        })
    }
}

pub(super) fn too_large(max: u64) -> Refusal {
    Refusal::bad("EntityTooLarge", format!("Your proposed upload exceeds the maximum allowed size, {max} bytes."))
}

/// Fields a policy need not speak of: those it is signed with, those that are ignored, and checksums, which can only
/// refuse what came damaged.
fn is_free(name: &str) -> bool {
    matches!(name, "policy" | "x-amz-signature" | "signature" | "awsaccesskeyid")
        || name.starts_with("x-ignore-")
        || name.starts_with("x-amz-checksum-")
}

impl Condition {
    fn of(value: &Value) -> Option<Self> {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let field = |value: &Value| Some(value.as_str()?.strip_prefix('$')?.to_ascii_lowercase());
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        match value {
            Value::Object(pair) if pair.len() == 1 => {
                let (name, value) = pair.iter().next()?;
                Some(Self::Is(name.to_ascii_lowercase(), text(value)?))
            }
            Value::Array(three) => {
                let [operator, first, second] = three.as_slice() else { return None };
                match operator.as_str()?.to_ascii_lowercase().as_str() {
                    "eq" => Some(Self::Is(field(first)?, text(second)?)),
                    "starts-with" => Some(Self::Begins(field(first)?, text(second)?)),
                    "content-length-range" => {
                        Some(Self::Length(number(first)?, number(second)?)).filter(|_| number(first) <= number(second))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Seconds since 1970 of a time in UTC, written as S3 wants it.
fn time(text: &str) -> Option<i64> {
    let is_written_so = text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T');
    let time: jiff::Timestamp = text.parse().ok().filter(|_| is_written_so)?;
    Some(time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Result<Policy, Refusal> {
        Policy::parse(&base64_simd::STANDARD.encode_to_string(json))
    }

    fn head(fields: &[(&str, &str)]) -> Head {
        Head {
            fields: fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..Head::default()
        }
    }

    #[test]
    fn a_form_is_what_its_policy_says() {
        let policy = policy(
            r#"{"expiration": "2026-01-01T00:00:00Z", "conditions": [
                {"bUcKeT": "b"}, ["StArTs-WiTh", "$KeY", "foo"], {"acl": "private"}, ["eq", "$x-amz-meta-foo", ""],
                ["starts-with", "$Content-Type", ""], ["content-length-range", 2, "4"]]}"#,
        )
        .unwrap();
        let good = [("key", "foo.txt"), ("acl", "private"), ("x-amz-meta-foo", "")];
        let now = policy.until - 1;
        let code = |fields: &[(&str, &str)], bucket, now| {
            policy.check(&head(fields), bucket, now).err().map(|refusal| refusal.code)
        };
        assert_eq!(code(&good, "b", now), None);
        assert_eq!(code(&good, "b", now + 1), Some("AccessDenied"), "expired");
        assert_eq!(code(&good, "other", now), Some("AccessDenied"));
        for (name, value) in [
            ("key", "bar"),
            ("acl", "public-read"),
            ("x-amz-meta-foo", "x"),
            ("x-amz-meta-bar", ""),
            ("bucket", "other"),
        ] {
            let mut fields: Vec<_> = good.into_iter().filter(|(known, _)| *known != name).collect();
            assert_eq!(
                code(&fields, "b", now).is_some(),
                good.iter().any(|(known, _)| *known == name),
                "without {name}"
            );
            fields.push((name, value));
            assert_eq!(code(&fields, "b", now), Some("AccessDenied"), "{name}={value}");
        }
        for name in ["policy", "signature", "x-ignore-me", "x-amz-checksum-crc32"] {
            assert_eq!(code(&[&good[..], &[(name, "x")]].concat(), "b", now), None, "{name}");
        }
        let length = |bytes| policy.check_length(bytes).err().map(|refusal| refusal.code);
        assert_eq!(
            [length(1), length(2), length(4), length(5)],
            [Some("EntityTooSmall"), None, None, Some("EntityTooLarge")]
        );
        assert_eq!(policy.bytes_max(), 4);
    }

    #[test]
    fn a_policy_that_forgets_the_bucket_is_good_for_none() {
        let policy =
            policy(r#"{"expiration": "2026-01-01T00:00:00Z", "conditions": [["starts-with", "$key", ""]]}"#).unwrap();
        assert_eq!(policy.check(&head(&[("key", "k")]), "b", 0).unwrap_err().code, "AccessDenied");
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for json in [
            "",
            "[]",
            r#"{"conditions": []}"#,
            r#"{"expiration": "2026-01-01T00:00:00Z"}"#,
            r#"{"EXPIRATION": "2026-01-01T00:00:00Z", "conditions": []}"#,
            r#"{"expiration": "2026-01-01 00:00:00+00:00", "conditions": []}"#,
            r#"{"expiration": "2026-01-01T00:00:00Z", "conditions": [{}]}"#,
            r#"{"expiration": "2026-01-01T00:00:00Z", "conditions": [["eq", "key", "x"]]}"#,
            r#"{"expiration": "2026-01-01T00:00:00Z", "conditions": [["content-length-range", 0]]}"#,
            r#"{"expiration": "2026-01-01T00:00:00Z", "conditions": [["content-length-range", -1, 0]]}"#,
            r#"{"expiration": "2026-01-01T00:00:00Z", "conditions": [["content-length-range", 2, 1]]}"#,
        ] {
            assert_eq!(policy(json).unwrap_err().code, "InvalidPolicyDocument", "{json}");
        }
        assert_eq!(Policy::parse("!").unwrap_err().code, "InvalidPolicyDocument");
    }
}
