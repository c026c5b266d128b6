//! Verify a receipt, or a provider's signed words, with nothing but the network key.

mod declined;

use crate::{
    args::Verify,
    context::Contexts,
    fault::{self, Fault, Result},
    out::{Out, bytes},
    time,
};
use hodei_sdk::verify::{Refused, Step, verify};
use hodei_types::{
    network::{NetworkKey, PREFIX},
    receipt::RECEIPT_BYTES_MAX,
};
use serde_json::json;
use std::{fs::File, io::Read as _, path::Path};

/// A word of so many letters and digits that names no file is a key; keys have 223.
const KEY_CHARS_MIN: usize = 100;

/// `hodei verify`: exit 0 when it is true, 6 when it is not.
pub(crate) fn run(
    args: &Verify,
    contexts: impl FnOnce() -> Result<(Contexts, Option<String>)>,
    out: Out,
) -> Result<()> {
    let key = network_key(args.network_key.as_deref(), contexts)?;
    if declined::is_listing(&args.receipt)? {
        if args.file.is_some() {
            let help = "leave --file out: what is declined is named by its shards' hashes alone";
            return Err(Fault::new(&fault::USAGE, "--file compares a file with a receipt, and this is none", help)
                .at(args.receipt.display()));
        }
        return declined::run(&args.receipt, &key, out);
    }
    let receipt = read_at_most(&args.receipt, RECEIPT_BYTES_MAX)?;
    let verified = verify(&receipt, &key).map_err(|refused| not_true(&refused, &args.receipt))?;
    if let Some(path) = &args.file {
        let io = |error| Fault::io(path, "reading the file", &error);
        let hash = verified.hash(File::open(path).map_err(io)?).map_err(io)?;
        verified.check_content(&hash).map_err(|refused| not_true(&refused, path))?;
    }

    let kind = verified.event.kind.name();
    let when = time::utc(verified.time_ms);
    let mut lines = vec![
        format!("✓ {} is true", args.receipt.display()),
        format!("  a {kind}, number {} in the log of node {}", verified.event.sequence, verified.log),
        format!("  anchored in block {} at {when}, certified by block {}", verified.height, verified.certified),
    ];
    if let Some(put) = &verified.put {
        let acks = verified.promises.len();
        lines.push(format!(
            "  {}-of-{}: any {} shards restore it; {acks} acks of providers are in the receipt",
            put.k, put.n, put.k
        ));
        for promise in &verified.promises {
            if let Some((node, operator)) = &promise.by {
                lines.push(format!("    node {node} of operator {operator}"));
            }
        }
    }
    if let Some(file) = &args.file {
        lines.push(format!("✓ {} is the file it names", file.display()));
    } else {
        lines.push(format!("  {}, under the network of genesis {}", bytes(receipt.len() as u64), key.genesis));
    }
    out.result(
        lines.join("\n"),
        &json!({
            "schema": "hodei.verify/1", "verified": true, "kind": kind, "sequence": verified.event.sequence,
            "log": verified.log.to_string(), "height": verified.height, "block": verified.block.to_string(),
            "time_ms": verified.time_ms, "certified": verified.certified, "genesis": key.genesis.to_string(),
            "acks": verified.promises.len(), "file": args.file,
            "providers": verified.promises.iter().filter_map(|promise| promise.by.as_ref())
                .map(|(node, operator)| json!({ "node": node.to_string(), "operator": operator.to_string() }))
                .collect::<Vec<_>>(),
        }),
    );
    Ok(())
}

/// The key as text, or in a file, or the context's.
fn network_key(
    given: Option<&str>,
    contexts: impl FnOnce() -> Result<(Contexts, Option<String>)>,
) -> Result<NetworkKey> {
    let (text, from) = match given {
        Some(text) if is_key(text) => (text.to_owned(), "--network-key".to_owned()),
        Some(path) => {
            let bytes = read_at_most(Path::new(path), 4096)?;
            (String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned(), path.to_owned())
        }
        None => {
            let (contexts, asked) = contexts()?;
            if contexts.chosen(asked.as_deref())?.is_none() {
                return Err(Fault::new(
                    &fault::NO_CONTEXT,
                    "no network key was given, and no cloud is chosen whose key could be taken",
                    "add `--network-key KEY`, copied from somebody you trust: `hodei status --json` of a member tells it",
                ));
            }
            let (name, context) = contexts.open(asked.as_deref())?;
            (context.network_key, format!("context {name}"))
        }
    };
    text.parse().map_err(|error| {
        Fault::new(&fault::NETWORK_KEY, error, "copy it whole, from `hodei status --json` of a member").at(from)
    })
}

/// Whether a text is meant as a key rather than as a file's name: also one that was mistyped, in its prefix or in the
/// case of its letters.
fn is_key(text: &str) -> bool {
    let begins = text.get(..PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX));
    let is_long_word = text.len() >= KEY_CHARS_MIN && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    begins || (is_long_word && !Path::new(text).exists())
}

fn not_true(refused: &Refused, path: &Path) -> Fault {
    let (code, help) = match refused.step() {
        Step::NetworkKey => (&fault::NETWORK_KEY, "copy the network key whole, from somebody you trust"),
        Step::File => (&fault::FILE_FALSE, "compare it with another copy; the receipt itself is sound"),
        _ => (&fault::RECEIPT_FALSE, "ask whoever gave it for another; do not rely on this one"),
    };
    let (expected, found) = refused.between();
    Fault::new(code, format!("step `{}` fails", refused.step().name()), help)
        .at(path.display())
        .between(expected, found)
}

fn read_at_most(path: &Path, most: usize) -> Result<Vec<u8>> {
    let io = |error| Fault::io(path, "reading", &error);
    let mut bytes = Vec::new();
    // One more than allowed, so that a file that is too long is noticed.
    File::open(path).map_err(io)?.take(most as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > most {
        return Err(Fault::new(&fault::RECEIPT_FALSE, "it is too long for what it should be", "check the file's name")
            .at(path.display())
            .between(format!("at most {most} bytes"), "more"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_not_taken_for_a_file() {
        let key = NetworkKey { genesis: Default::default(), group: [7; 96] }.to_string();
        let none = || -> Result<(Contexts, Option<String>)> { unreachable!("a key was given") };
        assert_eq!(network_key(Some(&key), none).unwrap().to_string(), key);
        for text in [key.to_uppercase(), key.replacen("hodeinet", "hodeinat", 1), key.replacen("hodei", "Hodei", 1)] {
            let fault = network_key(Some(&text), none).unwrap_err();
            assert_eq!((fault.code.id, fault.at.as_deref()), ("HD5003", Some("--network-key")), "{text}: {fault}");
        }
        assert_eq!(network_key(Some("no-such-file"), none).unwrap_err().code.id, "HD1004");
    }

    /// Whatever fails says what it wanted and what it got.
    #[test]
    fn bytes_that_are_no_receipt_are_told_with_expected_and_found() {
        let key = NetworkKey { genesis: Default::default(), group: [7; 96] };
        for bytes in [&b"text"[..], b""] {
            let refused = verify(bytes, &key).unwrap_err();
            let fault = not_true(&refused, Path::new("r"));
            assert!(
                fault.expected.is_some_and(|text| !text.is_empty()) && fault.found.is_some_and(|text| !text.is_empty())
            );
        }
    }
}
