//! Verify what providers declined by their signed words, with nothing but the network key.

use crate::{
    fault::{self, Fault, Result},
    out::Out,
    time,
};
use hodei_sdk::statement::{BadStatement, check};
use hodei_types::{
    decline::{DECLINED_BYTES_MAX, Decline},
    network::NetworkKey,
    transport::NodeKey,
};
use serde::Deserialize;
use serde_json::json;
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
};

/// A line of a listing is far shorter; so many of them are all that one node declines.
const LINE_BYTES_MAX: usize = 4096;
const LINES_MAX: usize = 1 << 16;
const SCHEMA: &str = "hodei.node.declined/1";

/// A line of `hodei node declined --json`.
#[derive(Deserialize)]
struct Line {
    schema: String,
    node: String,
    shard: String,
    since_ms: u64,
    ground: String,
    statement: String,
}

/// Written by some editors in front of text.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// White space looked through for a listing's first letter.
const LOOKED_BYTES: u64 = 4096;

/// Whether a file is such a listing, by its first letter: a receipt never begins with it. An empty
/// file is for [`run`] to tell of.
pub(super) fn is_listing(path: &Path) -> Result<bool> {
    let mut first = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LOOKED_BYTES).read_to_end(&mut first));
    read.map_err(|error| Fault::io(path, "reading", &error))?;
    let first = text_of(&first);
    Ok(first.is_empty() || first[0] == b'{')
}

/// What stands between white space, without the mark of an editor.
fn text_of(line: &[u8]) -> &[u8] {
    line.strip_prefix(MARK).unwrap_or(line).trim_ascii()
}

/// Each statement of a listing; the first that is not true ends it.
pub(super) fn run(path: &Path, key: &NetworkKey, out: Out) -> Result<()> {
    let io = |error| Fault::io(path, "reading", &error);
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let mut told = 0;
    loop {
        let mut line = Vec::new();
        let most = LINE_BYTES_MAX as u64 + 1;
        if file.by_ref().take(most).read_until(b'\n', &mut line).map_err(io)? == 0 {
            break;
        }
        if line.len() > LINE_BYTES_MAX || told == LINES_MAX {
            let expected = format!("at most {LINES_MAX} lines of {LINE_BYTES_MAX} bytes");
            let help = "give what `hodei node declined --json` printed";
            return Err(Fault::new(&fault::STATEMENT_FALSE, "it is too long for what it should be", help)
                .at(path.display())
                .between(expected, "more"));
        }
        let line = text_of(&line);
        if line.is_empty() {
            continue;
        }
        told += 1;
        let (node, decline) = statement(line, key).map_err(|(expected, found)| {
            let help = "ask whoever gave it for another; do not rely on this one";
            Fault::new(&fault::STATEMENT_FALSE, format!("statement {told} is not true"), help)
                .at(path.display())
                .between(expected, found)
        })?;
        tell(&node, &decline, key, out);
    }
    // True of any file that lost its content: nobody may take it for a proof.
    if told == 0 {
        let help = "the listing of a node that declines nothing is empty; a receipt never is: ask for it again";
        return Err(Fault::new(&fault::USAGE, "there is nothing in it to verify", help).at(path.display()));
    }
    out.say(format!("✓ {told} statements of {} are true", path.display()));
    Ok(())
}

fn tell(node: &NodeKey, decline: &Decline, key: &NetworkKey, out: Out) {
    let Decline { deal, id, time_ms, ground } = decline;
    let of = if *deal == 0 { String::new() } else { format!(" under deal {deal}") };
    out.result(
        format!("✓ node {node} declines shard {id}{of} since {}, on the ground {}", time::utc(*time_ms), ground.name()),
        &json!({
            "schema": "hodei.verify/1", "verified": true, "kind": "declined", "node": node.to_string(),
            "shard": id.to_string(), "deal": Some(*deal).filter(|deal| *deal > 0), "since_ms": time_ms,
            "ground": ground.name(), "genesis": key.genesis.to_string(),
        }),
    );
}

/// Who declines what by a line; else what was expected, and found.
fn statement(line: &[u8], key: &NetworkKey) -> std::result::Result<(NodeKey, Decline), (String, String)> {
    let form = |found: String| (format!("a line of {SCHEMA}"), found);
    let line: Line = serde_json::from_slice(line).map_err(|error| form(error.to_string()))?;
    if line.schema != SCHEMA {
        return Err(form(line.schema));
    }
    let mut node = [0; 32];
    hex::decode_to_slice(&line.node, &mut node).map_err(|_| form(format!("node {:?}", line.node)))?;
    let bytes = hex::decode(&line.statement).ok().filter(|bytes| bytes.len() <= DECLINED_BYTES_MAX);
    let bytes = bytes.ok_or_else(|| form("a statement that is not its bytes in hex".into()))?;
    let node = NodeKey(node);
    let decline = check(&bytes, &node, key).map_err(|error| match &error {
        BadStatement::Form(_) => form(error.to_string()),
        BadStatement::Signature(_) => (format!("a signature by node {node} on this network"), error.to_string()),
    })?;
    // What people read beside it must be what was signed.
    let said = (line.shard, line.since_ms, line.ground);
    let signed = (decline.id.to_string(), decline.time_ms, decline.ground.name().to_owned());
    if said != signed {
        return Err((format!("{signed:?}, as it was signed"), format!("{said:?}")));
    }
    Ok((node, decline))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::{ack::Signer, decline::Ground, slice::ShardId};
    use serde_json::Value;

    /// The chain id of a network whose genesis hash ends so.
    const CHAIN_ID: u64 = (1 << 31) + 5;

    fn key(last: u8) -> NetworkKey {
        let mut key = NetworkKey { genesis: Default::default(), group: [7; 96] };
        key.genesis.0[31] = last;
        key
    }

    fn line() -> Value {
        let signer = Signer::new(&[5; 32]);
        let decline = Decline { deal: 0, id: ShardId([1; 32]), time_ms: 1_800_000_000_000, ground: Ground::Report };
        let statement = hex::encode(decline.sign(CHAIN_ID, &signer).encode());
        json!({
            "schema": SCHEMA, "node": signer.node().to_string(), "shard": decline.id.to_string(),
            "since_ms": decline.time_ms, "ground": "report", "statement": statement,
        })
    }

    #[test]
    fn a_listed_statement_is_true_as_it_stands_and_no_other_way() {
        let check = |line: &Value, key: &NetworkKey| statement(line.to_string().as_bytes(), key);
        let (node, decline) = check(&line(), &key(5)).unwrap();
        assert_eq!((node, decline.ground), (Signer::new(&[5; 32]).node(), Ground::Report));
        assert!(check(&line(), &key(6)).unwrap_err().0.contains("on this network"), "another network");
        let changes = [
            ("node", json!("09".repeat(32))),
            ("shard", json!("02".repeat(32))),
            ("since_ms", json!(1_800_000_000_001u64)),
            ("ground", json!("court")),
            ("statement", json!("00")),
            ("statement", json!("zz")),
            ("schema", json!("hodei.node.declined/2")),
        ];
        for (name, value) in changes {
            let mut changed = line();
            changed[name] = value;
            let (expected, found) = check(&changed, &key(5)).unwrap_err();
            assert!(!expected.is_empty() && !found.is_empty(), "{name}");
        }
        assert!(statement(b"{}", &key(5)).is_err() && statement(b"text", &key(5)).is_err());
    }

    #[test]
    fn a_file_of_them_is_told_from_a_receipt_and_ends_at_the_first_that_is_changed() {
        let path = std::env::temp_dir().join(format!("hodei-declined-{}", std::process::id()));
        let out = Out { json: true };
        std::fs::write(&path, format!("{}\n\n{}\n", line(), line())).unwrap();
        assert!(is_listing(&path).unwrap());
        run(&path, &key(5), out).unwrap();
        let mut changed = line();
        changed["shard"] = json!("02".repeat(32));
        std::fs::write(&path, format!("{}\n{changed}\n", line())).unwrap();
        let fault = run(&path, &key(5), out).unwrap_err();
        assert_eq!((fault.code.id, fault.message.as_str()), ("HD5006", "statement 2 is not true"));
        // Some editors write a mark in front of one.
        for text in [format!("\u{feff}{}\r\n", line()), format!("\n {}", line())] {
            std::fs::write(&path, &text).unwrap();
            assert!(is_listing(&path).unwrap(), "{text:?}");
            run(&path, &key(5), out).unwrap();
        }
        // An honest one may be empty, which is no lie and proves nothing.
        for text in ["", "\n \r\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(is_listing(&path).unwrap(), "{text:?}");
            assert_eq!(run(&path, &key(5), out).unwrap_err().code.id, "HD1001", "{text:?}");
        }
        std::fs::write(&path, "x".repeat(LINE_BYTES_MAX + 1)).unwrap();
        assert_eq!(run(&path, &key(5), out).unwrap_err().code.id, "HD5006");
        for receipt in [&[0x8a, 1][..], &[0xef, 0xbb, 0xbf, 0x8a], b"\n\x8a"] {
            std::fs::write(&path, receipt).unwrap();
            assert!(!is_listing(&path).unwrap(), "{receipt:?}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
