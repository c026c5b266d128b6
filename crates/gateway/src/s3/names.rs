//! Tell which bucket a request is about: from its path, or from the name of the host.

use super::facts::percent;
use s3s::{
    S3Result,
    host::{S3Host, VirtualHost},
    path::check_bucket_name,
    s3_error,
    validation::NameValidation,
};

/// Domains under which a bucket's name may stand, as `bucket.s3.example.org`.
#[derive(Clone, Debug, Default)]
pub(super) struct Domains(Vec<String>);

impl Domains {
    pub(super) fn of(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// The bucket a host's name begins with, where it ends in one of the domains.
    pub(super) fn bucket<'a>(&self, host: &'a str) -> Option<&'a str> {
        let host = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
            .map_or(host, |(host, _)| host);
        let lower = host.to_ascii_lowercase();
        // The longest domain decides: `a.s3.localhost` is `a` of `s3.localhost`, not `a.s3` of `localhost`.
        let domain = self.0.iter().filter(|domain| is_under(&lower, domain)).max_by_key(|domain| domain.len())?;
        let bucket = &host[..host.len() - domain.len() - 1];
        (!self.0.contains(&lower) && check_bucket_name(bucket)).then_some(bucket)
    }
}

fn is_under(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl S3Host for Domains {
    /// A host of no domain is addressed by path.
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        Ok(match self.bucket(host) {
            Some(bucket) => VirtualHost::new(host).with_bucket(bucket),
            None => VirtualHost::new(host),
        })
    }
}

/// Bucket and key of a request, as the framework will find them.
pub(super) fn place(domains: &Domains, host: &str, path: &str) -> (Option<String>, Option<String>) {
    let path = percent(path.strip_prefix('/').unwrap_or(path));
    if let Some(bucket) = domains.bucket(host) {
        return (Some(bucket.to_owned()), Some(path).filter(|key| !key.is_empty()));
    }
    let (bucket, key) = path.split_once('/').map_or((path.as_str(), ""), |(bucket, key)| (bucket, key));
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    (some(bucket), some(key))
}

/// Names of buckets, also with the account they are in: `account:bucket`.
pub(super) struct Names;

impl NameValidation for Names {
    fn validate_bucket_name(&self, name: &str) -> bool {
        let (account, bucket) = split(name);
        check_bucket_name(bucket)
            && account
                .is_none_or(|account| account.len() <= 64 && account.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    }
}

/// Refuses for a new bucket what makes a part of a host's name begin or end with a hyphen: such a name cannot stand
/// before a domain. Buckets that have one are served.
pub(super) fn check_new(name: &str) -> S3Result<()> {
    match name.contains(".-") || name.contains("-.") {
        true => {
            Err(s3_error!(InvalidBucketName, "A dot in a bucket's name stands between letters or digits, found {name}"))
        }
        false => Ok(()),
    }
}

/// An account, where one is named, and a bucket.
pub(super) fn split(name: &str) -> (Option<&str>, &str) {
    name.split_once(':').map_or((None, name), |(account, bucket)| (Some(account), bucket))
}

/// Leaves the bucket's name of a name with an account.
pub(super) fn strip(name: &mut String) {
    if let Some((_, bucket)) = name.split_once(':') {
        *name = bucket.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_buckets_under_their_domains() {
        let domains = Domains(vec!["localhost".into(), "s3.localhost".into()]);
        for (host, bucket) in [
            ("bucket.s3.localhost:9000", Some("bucket")),
            ("bucket.localhost", Some("bucket")),
            ("my.bucket.s3.localhost", Some("my.bucket")),
            ("BUCKET.S3.LOCALHOST", None),
            ("s3.localhost:9000", None),
            ("localhost", None),
            ("127.0.0.1:9000", None),
            (".s3.localhost", None),
            ("xs3.localhost", Some("xs3")),
            ("example.org", None),
        ] {
            assert_eq!(domains.bucket(host), bucket, "{host}");
        }
        assert_eq!(place(&domains, "bucket.localhost", "/a%2Fb"), (Some("bucket".into()), Some("a/b".into())));
        assert_eq!(place(&domains, "localhost", "/bucket/a/b"), (Some("bucket".into()), Some("a/b".into())));
        assert_eq!(place(&domains, "localhost", "/"), (None, None));
    }

    #[test]
    fn hyphens_do_not_stand_beside_dots() {
        assert!(check_new("a-b.c-d").is_ok() && check_new("a--b").is_ok());
        for name in ["foo.-bar", "foo-.bar", "a-.b"] {
            assert_eq!(check_new(name).unwrap_err().code().as_str(), "InvalidBucketName", "{name}");
        }
    }

    #[test]
    fn an_account_may_stand_before_a_name() {
        assert!(
            Names.validate_bucket_name("bucket")
                && Names.validate_bucket_name(":bucket")
                && Names.validate_bucket_name("acme:bucket")
        );
        assert!(
            !Names.validate_bucket_name("a/b:bucket")
                && !Names.validate_bucket_name("acme:B")
                && !Names.validate_bucket_name("a:b:c")
        );
        assert_eq!(split("acme:bucket"), (Some("acme"), "bucket"));
    }
}
