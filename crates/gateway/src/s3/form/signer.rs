//! Tell whose key signed a form.
//!
//! What is signed is the policy as it was sent. Version 4 signs with a key of the day; version 2, which older pages
//! have, with the secret itself and HMAC-SHA1, whose weakness in finding collisions is none here. Both are compared
//! in constant time.

use super::{
    super::{keys::Keyring, refusal::Refusal},
    parts::Head,
};
use aws_lc_rs::hmac;

/// As for links: a signing key of version 4 is good for a week.
const AGE_SECS_MAX: i64 = 7 * 24 * 3600;
const SKEW_SECS_MAX: i64 = 900;

/// Whose key signed a form; in the extensions of the request that is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Signer {
    pub(in super::super) access_key_id: String,
    /// As conditions name it.
    pub(in super::super) version: &'static str,
}

fn wrong(why: &'static str) -> Refusal {
    Refusal::forbidden("SignatureDoesNotMatch", why)
}

impl Signer {
    /// Nobody where neither a policy nor a signature is there.
    pub(super) fn of(head: &Head, keyring: &Keyring, now_secs: i64) -> Result<Option<Self>, Refusal> {
        let missing =
            |what| Refusal::bad("InvalidArgument", format!("Bucket POST must contain a field named '{what}'."));
        let need = |name: &'static str| head.field(name).ok_or_else(|| missing(name));
        let (fourth, second) = (head.field("x-amz-signature"), head.field("signature"));
        if head.field("policy").is_none() && fourth.is_none() && second.is_none() {
            return Ok(None);
        }
        let policy = need("policy")?;
        let (access_key_id, version) = match fourth {
            Some(_) => (need("x-amz-credential")?.split('/').next().unwrap_or_default(), "AWS4-HMAC-SHA256"),
            None => (need("awsaccesskeyid")?, "AWS"),
        };
        let secret = match keyring.held(access_key_id, now_secs.unsigned_abs() * 1000) {
            Some(held) => held.key.secret_access_key.clone(),
            None => {
                let message = "The access key you provided does not exist, or is no longer in use.";
                return Err(Refusal::forbidden("InvalidAccessKeyId", message));
            }
        };
        let holds = match fourth {
            Some(signature) => {
                if need("x-amz-algorithm")? != "AWS4-HMAC-SHA256" {
                    return Err(Refusal::bad("InvalidArgument", "A form's x-amz-algorithm is AWS4-HMAC-SHA256."));
                }
                let key = day_key(&secret, need("x-amz-credential")?, need("x-amz-date")?, now_secs)?;
                let mac = hex::decode(signature).unwrap_or_default();
                hmac::verify(&key, policy.as_bytes(), &mac).is_ok()
            }
            None => {
                let mac = base64_simd::STANDARD
                    .decode_to_vec(second.ok_or_else(|| missing("signature"))?)
                    .unwrap_or_default();
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
                hmac::verify(&key, policy.as_bytes(), &mac).is_ok()
            }
        };
        match holds {
            true => Ok(Some(Self { access_key_id: access_key_id.to_owned(), version })),
            false => Err(wrong("The signature of the form's policy is not made with this key's secret.")),
        }
    }
}

/// The key of a day, a region and S3, as `ID/YYYYMMDD/REGION/s3/aws4_request` says, for a form of that day.
fn day_key(secret: &str, credential: &str, date: &str, now_secs: i64) -> Result<hmac::Key, Refusal> {
    let parts: Vec<&str> = credential.split('/').collect();
    let [_, day, region, "s3", "aws4_request"] = parts.as_slice() else {
        return Err(Refusal::bad(
            "InvalidArgument",
            "A form's x-amz-credential is ID/YYYYMMDD/REGION/s3/aws4_request.",
        ));
    };
    let signed = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", date).and_then(|time| time.to_datetime());
    let signed =
        signed.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC)).map(|time| time.timestamp().as_second());
    let signed = signed.map_err(|_| Refusal::bad("InvalidArgument", "A form's x-amz-date is YYYYMMDDTHHMMSSZ."))?;
    if !date.starts_with(day) {
        return Err(wrong("The day of x-amz-credential is not that of x-amz-date."));
    }
    if !(now_secs - AGE_SECS_MAX..=now_secs + SKEW_SECS_MAX).contains(&signed) {
        return Err(Refusal::forbidden("AccessDenied", "A form is signed at most a week before it is sent."));
    }
    let sign = |key: &[u8], text: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, text.as_bytes())
    };
    let mut key = sign(format!("AWS4{secret}").as_bytes(), day);
    for text in [region, "s3", "aws4_request"] {
        key = sign(key.as_ref(), text);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_key() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        // 2015-12-29, noon.
        let now = 1_451_390_400;
        let key = day_key(secret, "A/20151229/us-east-1/s3/aws4_request", "20151229T000000Z", now).unwrap();
        // As Python's hmac has it.
        let mac = hex::decode("8662e08a705049ad80cefd50bac60612de3eec7deff00186fffc421cc0ba46ac").unwrap();
        assert!(hmac::verify(&key, b"e30=", &mac).is_ok());
        for (credential, date, now) in [
            ("A/20151229/us-east-1/s3/aws4_request", "20151230T000000Z", now),
            ("A/20151229/us-east-1/iam/aws4_request", "20151229T000000Z", now),
            ("A/20151229/us-east-1/s3/aws4_request", "2015-12-29", now),
            ("A/20151229/us-east-1/s3/aws4_request", "20151229T000000Z", now + AGE_SECS_MAX),
            ("A/20151229/us-east-1/s3/aws4_request", "20151229T000000Z", now - 12 * 3600 - SKEW_SECS_MAX - 1),
        ] {
            assert!(day_key(secret, credential, date, now).is_err(), "{credential} {date} {now}");
        }
    }
}
