//! Name what agent and runner say to each other.
//!
//! Upon being entered, a runner hears one [`Ask::Compile`] or [`Ask::Start`], confines itself, and tells
//! [`Tell::Confined`]. Then it hears the wasm or the code as [`Ask::Bytes`]. A compiling runner tells the code the same
//! way, [`Tell::Compiled`], and ends. A started one tells [`Tell::Ready`] and hears one [`Ask::Request`] or
//! [`Ask::Run`] after the other: its body as [`Ask::Bytes`] and [`Ask::End`], the answer as [`Tell::Head`],
//! [`Tell::Bytes`] and always [`Tell::Done`]. It ends when the socket closes.

use crate::{
    limit::{COMMAND_BYTES_MAX, CompileLimits, HEADER_BYTES_MAX, HEADERS_MAX, Limits, TARGET_BYTES_MAX, WORDS_MAX},
    reading::{Failure, Readings},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use minicbor::{Decode, Encode};
use std::time::Duration;

#[derive(Debug, Encode, Decode)]
pub(crate) enum Ask {
    #[n(0)]
    Compile {
        #[n(0)]
        limits: CompileLimits,
        #[n(1)]
        wasm_bytes: u64,
    },
    #[n(1)]
    Start {
        #[n(0)]
        limits: Limits,
        #[n(1)]
        code_bytes: u64,
    },
    #[n(2)]
    Bytes(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    #[n(3)]
    End,
    #[n(4)]
    Request(#[n(0)] Request),
    #[n(5)]
    Run(#[n(0)] Command),
}

#[derive(Debug, Encode, Decode)]
pub(crate) enum Tell {
    #[n(0)]
    Confined(#[n(0)] Box<Confinement>),
    #[n(1)]
    Bytes(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    #[n(2)]
    Compiled {
        #[n(0)]
        took: Duration,
    },
    #[n(3)]
    Ready {
        #[n(0)]
        entry: Entry,
        /// Mapping the code and linking it.
        #[n(1)]
        loaded_in: Duration,
    },
    /// What was sent is not a component that can run here.
    #[n(4)]
    Refused(#[n(0)] String),
    #[n(5)]
    Head {
        #[n(0)]
        status: u16,
        #[n(1)]
        headers: Vec<Header>,
    },
    #[n(6)]
    Done {
        #[n(0)]
        readings: Readings,
        #[n(1)]
        failure: Option<Failure>,
        #[cbor(n(2), with = "minicbor::bytes")]
        log: Vec<u8>,
    },
}

/// How a component is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Entry {
    /// It answers requests: `wasi:http/incoming-handler`.
    #[n(0)]
    Http,
    /// It runs once: `wasi:cli/run`.
    #[n(1)]
    Command,
}

/// What is the same for the component whenever this is run again.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Circumstance {
    /// Since 1970; it stands still while the component runs.
    #[n(0)]
    pub(crate) now: Duration,
    /// All that it holds for random follows from this.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) seed: [u8; 32],
}

#[derive(Debug, Encode, Decode)]
pub(crate) struct Request {
    #[n(0)]
    pub(crate) circumstance: Circumstance,
    #[n(1)]
    pub(crate) method: String,
    #[n(2)]
    pub(crate) target: String,
    #[n(3)]
    pub(crate) headers: Vec<Header>,
}

#[derive(Debug, Encode, Decode)]
pub(crate) struct Command {
    #[n(0)]
    pub(crate) circumstance: Circumstance,
    #[n(1)]
    pub(crate) arguments: Vec<String>,
    #[n(2)]
    pub(crate) environment: Vec<(String, String)>,
}

impl Command {
    pub(crate) fn bytes(&self) -> usize {
        let environment = self.environment.iter().map(|(name, value)| name.len() + value.len());
        self.arguments.iter().map(String::len).chain(environment).sum()
    }

    pub(crate) fn checked(self) -> Result<Self, String> {
        match self.bytes() {
            0..=COMMAND_BYTES_MAX => Ok(self),
            found => Err(format!("arguments and environment are {found} bytes, {COMMAND_BYTES_MAX} are allowed")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Header {
    #[n(0)]
    name: String,
    #[cbor(n(1), with = "minicbor::bytes")]
    value: Vec<u8>,
}

/// A head's headers as they cross the socket, if they are few and short enough.
pub(crate) fn headers(of: &HeaderMap) -> Result<Vec<Header>, String> {
    let (count, bytes) = (of.len(), header_bytes(of));
    if count > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(format!(
            "{count} headers of {bytes} bytes, {HEADERS_MAX} of {HEADER_BYTES_MAX} together are allowed"
        ));
    }
    Ok(of.iter().map(|(name, value)| Header { name: name.to_string(), value: value.as_bytes().into() }).collect())
}

pub(crate) fn header_bytes(of: &HeaderMap) -> usize {
    of.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// The same, read by the other side, which trusts nothing.
pub(crate) fn header_map(headers: Vec<Header>) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    if headers.len() > HEADERS_MAX {
        return Err(format!("{} headers, {HEADERS_MAX} are allowed", headers.len()));
    }
    for Header { name, value } in headers {
        let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
        map.append(name, HeaderValue::try_from(value).map_err(|error| error.to_string())?);
    }
    Ok(map)
}

impl Request {
    /// The request without its body, or what is wrong with it.
    pub(crate) fn parts(self) -> Result<http::request::Parts, String> {
        let length = self.method.len() + self.target.len();
        if length > TARGET_BYTES_MAX {
            return Err(format!("method and target are {length} bytes, {TARGET_BYTES_MAX} are allowed"));
        }
        let request = http::Request::builder().method(self.method.as_str()).uri(self.target.as_str());
        let (mut parts, ()) = request.body(()).map_err(|error| error.to_string())?.into_parts();
        parts.headers = header_map(self.headers)?;
        Ok(parts)
    }
}

/// Cuts an error's words to what may cross the socket.
pub(crate) fn words(of: impl std::fmt::Display) -> String {
    of.to_string().chars().take(WORDS_MAX).collect()
}

/// One fence around a runner on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Fence {
    #[n(0)]
    Stands,
    /// Some of it: the words say what is not.
    #[n(1)]
    Partly(#[n(0)] String),
    #[n(2)]
    Missing(#[n(0)] String),
}

/// What confines a runner here, by its own account after it did what it could, and tried to get out.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Confinement {
    /// It is not root, and was started by another or gave it up.
    #[n(0)]
    pub unprivileged: Fence,
    /// No program that it starts could gain rights.
    #[n(1)]
    pub no_new_privileges: Fence,
    /// Memory, open files, processor time of a compiler, core dumps.
    #[n(2)]
    pub resource_limits: Fence,
    /// No file but the one socket is left of what its parent had.
    #[n(3)]
    pub files_closed: Fence,
    #[n(4)]
    pub landlock: Fence,
    #[n(5)]
    pub system_calls: Fence,
    /// It tried to open the root folder, and was refused.
    #[n(6)]
    pub files_refused: Fence,
    /// It tried to make an internet socket, and was refused.
    #[n(7)]
    pub network_refused: Fence,
    /// It tried to signal the agent, and was refused.
    #[n(8)]
    pub signals_refused: Fence,
}

impl Confinement {
    /// Each fence under its name.
    pub fn fences(&self) -> [(&'static str, &Fence); 9] {
        [
            ("unprivileged", &self.unprivileged),
            ("no new privileges", &self.no_new_privileges),
            ("resource limits", &self.resource_limits),
            ("files closed", &self.files_closed),
            ("landlock", &self.landlock),
            ("system calls", &self.system_calls),
            ("files refused", &self.files_refused),
            ("network refused", &self.network_refused),
            ("signals refused", &self.signals_refused),
        ]
    }

    /// Whether every fence stands whole.
    pub fn is_whole(&self) -> bool {
        self.fences().iter().all(|(_, fence)| **fence == Fence::Stands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_past_their_limits_are_refused() {
        let mut many = HeaderMap::new();
        for _ in 0..=HEADERS_MAX {
            many.append("a", HeaderValue::from_static("b"));
        }
        assert!(headers(&many).is_err());
        many.remove("a");
        many.insert("a", HeaderValue::from_bytes(&vec![b'x'; HEADER_BYTES_MAX]).unwrap());
        assert!(headers(&many).is_err(), "one byte too long with its name");
        many.insert("a", HeaderValue::from_static("b"));
        assert_eq!(header_map(headers(&many).unwrap()).unwrap(), many);
    }
}
