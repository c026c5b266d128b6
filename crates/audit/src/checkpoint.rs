//! Sign how long a log is and what is in it, as a C2SP signed note.

use alloy_primitives::B256;
use hodei_types::{
    ack::{Signer, is_signed},
    checkpoint::{base64, body, cohort_leaf, origin},
    transport::NodeKey,
};
use sha2::{Digest as _, Sha256};

/// A signed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub genesis: B256,
    pub log: NodeKey,
    pub size: u64,
    pub root: B256,
    /// Over [`Signed::body`].
    pub signature: [u8; 64],
}

impl Signed {
    pub fn new(genesis: B256, signer: &Signer, size: u64, root: B256) -> Self {
        let log = signer.node();
        let signature = signer.sign(body(&genesis, &log, size, &root).as_bytes());
        Self { genesis, log, size, root, signature }
    }

    /// Origin, size and root, a line each.
    pub fn body(&self) -> String {
        body(&self.genesis, &self.log, self.size, &self.root)
    }

    pub fn is_genuine(&self) -> bool {
        is_signed(&self.log, self.body().as_bytes(), &self.signature)
    }

    /// This checkpoint's leaf in its cohort.
    pub fn leaf(&self) -> B256 {
        cohort_leaf(&self.body(), &self.log)
    }

    /// The whole signed note, for witnesses and standard tools.
    pub fn note(&self) -> String {
        let name = origin(&self.genesis, &self.log);
        let body = self.body();
        format!("{body}\n{}", signature_line(&name, &self.log, &self.signature))
    }
}

/// C2SP signed-note: em dash, name, base64 of key id and signature.
fn signature_line(name: &str, key: &NodeKey, signature: &[u8; 64]) -> String {
    let id = Sha256::new().chain_update(name).chain_update([b'\n', 1]).chain_update(key.0).finalize();
    format!("— {name} {}\n", base64(&[&id[..4], &signature[..]].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Go's `golang.org/x/mod/sumdb/note`, whose format C2SP signed-note is.
    #[test]
    fn signs_go_s_example_note() {
        let text =
            "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let seed = hex("810a1402d5146c8d84f2443330f54080ebf98ee17d9c74f6252fc5d5c7283173");
        let signer = Signer::new(&seed.try_into().unwrap());
        assert_eq!(
            signature_line("PeterNeumann", &signer.node(), &signer.sign(text.as_bytes())),
            "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
        );
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn every_part_is_signed() {
        let signer = Signer::new(&[7; 32]);
        let signed = Signed::new(B256::repeat_byte(1), &signer, 3, B256::repeat_byte(2));
        let bent = [
            Signed { size: 4, ..signed.clone() },
            Signed { root: B256::repeat_byte(3), ..signed.clone() },
            Signed { genesis: B256::repeat_byte(3), ..signed.clone() },
            Signed { log: Signer::new(&[8; 32]).node(), ..signed.clone() },
        ];
        for bent in bent {
            assert!(!bent.is_genuine());
        }
    }
}
