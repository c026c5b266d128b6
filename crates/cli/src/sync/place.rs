//! Read what a side of a sync is.

use crate::{
    args::Foreign,
    data::reference,
    fault::{self, Fault, Result},
    session::sdk_fault,
};
use hodei_gateway::foreign::{Config, ForeignError, Server};
use std::path::PathBuf;

/// Longer files hold no certificates of one server, and no secret.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A side as it was named. A prefix is empty or ends in a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Folder(PathBuf),
    Cloud {
        bucket: String,
        prefix: String,
    },
    /// All buckets of ours, by their names over there.
    AllCloud,
    Foreign {
        bucket: String,
        prefix: String,
    },
    AllForeign,
}

impl Place {
    pub(super) fn read(text: &str) -> Result<Self> {
        let wrong = |message: &str| {
            Fault::new(&fault::REFERENCE, message, "write a folder, hodei://BUCKET/PREFIX, or s3://BUCKET/PREFIX")
                .between("hodei://BUCKET", format!("{text:?}"))
        };
        let split = |rest: &str| {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
            (bucket.to_owned(), format!("{prefix}{slash}"))
        };
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = split(rest);
            return match (bucket.is_empty(), prefix.is_empty()) {
                (true, true) => Ok(Self::AllForeign),
                (true, false) => Err(wrong("that names no bucket")),
                _ => Ok(Self::Foreign { bucket, prefix }),
            };
        }
        if reference(text).is_none() {
            return Ok(Self::Folder(text.into()));
        }
        let (bucket, prefix) = split(&text["hodei://".len()..]);
        if bucket.is_empty() {
            return if prefix.is_empty() { Ok(Self::AllCloud) } else { Err(wrong("that names no bucket")) };
        }
        hodei_sdk::bucket::check_name(&bucket).map_err(sdk_fault)?;
        Ok(Self::Cloud { bucket, prefix })
    }

    /// For people.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Folder(path) => path.display().to_string(),
            Self::Cloud { bucket, prefix } => format!("hodei://{bucket}/{prefix}"),
            Self::AllCloud => "hodei://".into(),
            Self::Foreign { bucket, prefix } => format!("s3://{bucket}/{prefix}"),
            Self::AllForeign => "s3://".into(),
        }
    }
}

/// The other server, as flags and environment name it.
pub(super) fn server(args: &Foreign) -> Result<Server> {
    let Some(endpoint) = &args.endpoint else {
        return Err(Fault::new(
            &fault::USAGE,
            "no other S3 server is named",
            "name it with --endpoint, or AWS_ENDPOINT_URL",
        )
        .between("https://HOST:PORT", "nothing"));
    };
    let keys = match (&args.access_key, secret(args)?) {
        (Some(key), Some(secret)) => Some((key.clone(), secret)),
        (None, None) => None,
        (Some(_), None) => {
            return Err(Fault::new(
                &fault::USAGE,
                "there is an access key and no secret",
                "set AWS_SECRET_ACCESS_KEY, or name --secret-file",
            ));
        }
        (None, Some(_)) => {
            return Err(Fault::new(&fault::USAGE, "there is a secret and no access key", "name it with --access-key"));
        }
    };
    Server::new(Config {
        endpoint: endpoint.clone(),
        region: args.region.clone(),
        keys,
        session_token: std::env::var("AWS_SESSION_TOKEN").ok().filter(|token| !token.is_empty()),
        is_virtual: args.virtual_host,
        certificates: args.ca.as_ref().map(|path| read(path)).transpose()?,
    })
    .map_err(foreign_fault)
}

fn secret(args: &Foreign) -> Result<Option<String>> {
    let Some(path) = &args.secret_file else {
        return Ok(std::env::var("AWS_SECRET_ACCESS_KEY").ok().filter(|secret| !secret.is_empty()));
    };
    let text = String::from_utf8(read(path)?).ok();
    let first = text.as_deref().and_then(|text| text.lines().next()).map(str::trim).filter(|line| !line.is_empty());
    let first = first.ok_or_else(|| {
        Fault::new(&fault::USAGE, "the file holds no secret", "put it on the first line").at(path.display())
    })?;
    Ok(Some(first.to_owned()))
}

fn read(path: &std::path::Path) -> Result<Vec<u8>> {
    let io = |error| Fault::io(path, "reading the file", &error);
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > FILE_BYTES_MAX {
        return Err(Fault::new(&fault::USAGE, "the file is too long for what it shall hold", "look what it is")
            .at(path.display()));
    }
    std::fs::read(path).map_err(io)
}

/// What the other server said, as a fault.
pub(super) fn foreign_fault(error: ForeignError) -> Fault {
    match &error {
        ForeignError::Endpoint(..) | ForeignError::Certificate(_) => {
            Fault::new(&fault::USAGE, &error, "correct it and run the command again")
        }
        ForeignError::Untrusted(_) => Fault::new(
            &fault::FOREIGN,
            &error,
            "name the server's own certificate with --ca, or that of who signed it; it must be for this host and of today",
        ),
        ForeignError::Key(_) => {
            Fault::new(&fault::FOREIGN, &error, "copy it over there to a key without such a segment")
        }
        ForeignError::Sealed(_) => {
            Fault::new(&fault::SEALED, &error, "whoever has the key copies it over there to an object without one")
        }
        error if error.is_temporary() => {
            Fault::new(&fault::FOREIGN_AWAY, error, "run the same command again: what was carried stays")
        }
        error if error.is_denied() => Fault::new(
            &fault::FOREIGN,
            error,
            "check the access key, its secret, the region, and what the key may read there",
        ),
        error if error.is_missing() => {
            Fault::new(&fault::NO_FOREIGN, error, "check the bucket's name and the endpoint")
        }
        error if error.is_elsewhere() => {
            let help = "check the endpoint and the region; --virtual-host is for servers like Amazon's";
            Fault::new(&fault::FOREIGN, error, help)
        }
        error => Fault::new(&fault::FOREIGN, error, "the reason is that server's own: correct it there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_read_as_written() {
        let cloud = |prefix: &str| Place::Cloud { bucket: "photos".into(), prefix: prefix.into() };
        for (text, place) in [
            ("hodei://photos", cloud("")),
            ("hodei://photos/", cloud("")),
            ("hodei://photos/2026", cloud("2026/")),
            ("hodei://photos/2026/", cloud("2026/")),
            ("hodei://", Place::AllCloud),
            ("s3://", Place::AllForeign),
            ("s3://Old_Bucket/a", Place::Foreign { bucket: "Old_Bucket".into(), prefix: "a/".into() }),
            ("./photos", Place::Folder("./photos".into())),
        ] {
            assert_eq!(Place::read(text).unwrap(), place, "{text}");
        }
        for text in ["hodei:///a", "s3:///a", "hodei://UPPER", "hodei://a"] {
            assert_eq!(Place::read(text).unwrap_err().code.id, "HD3003", "{text}");
        }
    }
}
