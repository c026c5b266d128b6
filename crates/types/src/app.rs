//! Name what a deployer gives a host to run.
//!
//! A [`Manifest`] says which component or container runs and within what. It has one encoding; [`Manifest::workload`] is a hash over
//! it and is what an order names, so that the ledger binds host and deployer to exactly these bytes. [`wire`] carries
//! it, and what is asked of a replica. A [`transcript::Transcript`] is one request that anybody can run again.

pub mod container;
pub mod given;
pub mod transcript;
pub mod volume;
pub mod wire;

use crate::{
    ack::is_signed,
    cbor::{CborError, Reader, Writer},
    transport::NodeKey,
};
use container::Container;

/// Longest component that a host takes.
pub const COMPONENT_BYTES_MAX: u64 = 32 << 20;
/// Longest encoding of a manifest.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// Longest name of an app: a label of DNS.
pub const NAME_BYTES_MAX: usize = 63;
/// How far a seal's time may be from the host's.
pub const SEAL_MS_MAX: u64 = 60_000;

const COMPONENT_VERSION: u64 = 1;
const CONTAINER_VERSION: u64 = 2;

/// What one request to a replica may use. A container's fuel and memory are not counted by the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of wasmtime, about an instruction each.
    pub fuel: u64,
    /// All linear memories of an instance together; a lease's memory must have room for it.
    pub memory_bytes: u64,
    /// From the request's head to the answer's last byte.
    pub deadline_ms: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

impl Limits {
    pub const FUEL_MAX: u64 = 1_000_000_000_000;
    pub const MEMORY_BYTES_MAX: u64 = 2 << 30;
    pub const DEADLINE_MS_MAX: u64 = 300_000;
    pub const BODY_BYTES_MAX: u64 = 64 << 20;
    /// One page of wasm.
    pub const MEMORY_BYTES_MIN: u64 = 64 << 10;

    fn check(&self) -> Result<(), ManifestError> {
        let fields = [
            ("fuel", self.fuel, 1, Self::FUEL_MAX),
            ("memory_bytes", self.memory_bytes, Self::MEMORY_BYTES_MIN, Self::MEMORY_BYTES_MAX),
            ("deadline_ms", self.deadline_ms, 1, Self::DEADLINE_MS_MAX),
            ("request_bytes", self.request_bytes, 0, Self::BODY_BYTES_MAX),
            ("response_bytes", self.response_bytes, 0, Self::BODY_BYTES_MAX),
        ];
        fields.into_iter().try_for_each(|(field, found, least, most)| within(field, found, least, most))
    }
}

impl Default for Limits {
    /// What suits a small service.
    fn default() -> Self {
        Self {
            fuel: 20_000_000_000,
            memory_bytes: 128 << 20,
            deadline_ms: 30_000,
            request_bytes: 16 << 20,
            response_bytes: 16 << 20,
        }
    }
}

/// A component in WebAssembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// BLAKE3 of its wasm.
    pub hash: [u8; 32],
    /// Its length.
    pub bytes: u64,
}

/// What a replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runs {
    Component(Component),
    Container(Box<Container>),
}

/// What runs, within what, and who may read what it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// 1 to 63 of `a-z 0-9 -`, no `-` first or last.
    pub name: String,
    pub runs: Runs,
    pub limits: Limits,
    /// Ed25519 key of the app: who signs with it may read its log.
    pub viewer: NodeKey,
}

/// Why bytes or fields are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("manifest: {0}")]
    Cbor(#[from] CborError),
    #[error("app name {0:?}: use 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -, with no - first or last")]
    Name(String),
    #[error("manifest's {field} is {found}: set it from {least} to {most}")]
    Field { field: &'static str, found: u64, least: u64, most: u64 },
    #[error("the component has {found} bytes, its manifest says {expected}: build the manifest anew")]
    Length { expected: u64, found: u64 },
    #[error("the component is another than its manifest names: build the manifest anew")]
    Component,
    #[error("{0:?} cannot stand in a container's manifest: no NUL anywhere, and no = in a variable's name")]
    Text(String),
}

fn within(field: &'static str, found: u64, least: u64, most: u64) -> Result<(), ManifestError> {
    match (least..=most).contains(&found) {
        true => Ok(()),
        false => Err(ManifestError::Field { field, found, least, most }),
    }
}

/// Whether this may name an app: a label of DNS in lower case.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !name.starts_with('-')
        && !name.ends_with('-')
}

impl Manifest {
    /// Describes a component, if everything is within its bounds.
    pub fn new(name: &str, wasm: &[u8], limits: Limits, viewer: NodeKey) -> Result<Self, ManifestError> {
        let component = Component { hash: *blake3::hash(wasm).as_bytes(), bytes: wasm.len() as u64 };
        let manifest = Self { name: name.to_owned(), runs: Runs::Component(component), limits, viewer };
        manifest.check()?;
        Ok(manifest)
    }

    /// Describes a container, if everything is within its bounds.
    pub fn of_container(
        name: &str,
        container: Container,
        limits: Limits,
        viewer: NodeKey,
    ) -> Result<Self, ManifestError> {
        let manifest = Self { name: name.to_owned(), runs: Runs::Container(Box::new(container)), limits, viewer };
        manifest.check()?;
        Ok(manifest)
    }

    /// The container it names, if it names one.
    pub fn container(&self) -> Option<&Container> {
        match &self.runs {
            Runs::Container(container) => Some(container),
            Runs::Component(_) => None,
        }
    }

    /// The component it names, if it names one.
    pub fn component(&self) -> Option<&Component> {
        match &self.runs {
            Runs::Component(component) => Some(component),
            Runs::Container(_) => None,
        }
    }

    /// Of what hosts are given besides this.
    pub fn bytes(&self) -> u64 {
        match &self.runs {
            Runs::Component(component) => component.bytes,
            Runs::Container(container) => container.bytes(),
        }
    }

    /// Whether each field is within its bounds.
    pub fn check(&self) -> Result<(), ManifestError> {
        if !is_name(&self.name) {
            return Err(ManifestError::Name(self.name.clone()));
        }
        match &self.runs {
            Runs::Component(component) => within("bytes", component.bytes, 1, COMPONENT_BYTES_MAX)?,
            Runs::Container(container) => container.check()?,
        }
        self.limits.check()
    }

    /// Whether this is the component it names.
    pub fn check_component(&self, wasm: &[u8]) -> Result<(), ManifestError> {
        let component = self.component().ok_or(ManifestError::Component)?;
        match wasm.len() as u64 {
            found if found != component.bytes => Err(ManifestError::Length { expected: component.bytes, found }),
            _ if blake3::hash(wasm).as_bytes() != &component.hash => Err(ManifestError::Component),
            _ => Ok(()),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(512);
        match &self.runs {
            Runs::Component(Component { hash, bytes }) => {
                out.array(6).uint(COMPONENT_VERSION).text(&self.name).bytes(hash).uint(*bytes);
            }
            Runs::Container(container) => {
                container.write(out.array(5).uint(CONTAINER_VERSION).text(&self.name));
            }
        }
        let limits = &self.limits;
        out.array(5).uint(limits.fuel).uint(limits.memory_bytes).uint(limits.deadline_ms);
        out.uint(limits.request_bytes).uint(limits.response_bytes);
        out.bytes(&self.viewer.0);
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            let (found, most) = (bytes.len() as u64, MANIFEST_BYTES_MAX as u64);
            return Err(ManifestError::Field { field: "length", found, least: 1, most });
        }
        let mut input = Reader::new(bytes);
        let (values, version) = (input.array(6)?, input.uint()?);
        let name = input.text(NAME_BYTES_MAX)?.to_owned();
        let runs = match (values, version) {
            (6, COMPONENT_VERSION) => Runs::Component(Component { hash: input.fixed()?, bytes: input.uint()? }),
            (5, CONTAINER_VERSION) => Runs::Container(Box::new(Container::read(&mut input)?)),
            _ => {
                let (least, most) = (COMPONENT_VERSION, CONTAINER_VERSION);
                return Err(ManifestError::Field { field: "version", found: version, least, most });
            }
        };
        input.tuple(5)?;
        let limits = Limits {
            fuel: input.uint()?,
            memory_bytes: input.uint()?,
            deadline_ms: input.uint()?,
            request_bytes: input.uint()?,
            response_bytes: input.uint()?,
        };
        let viewer = NodeKey(input.fixed()?);
        input.end()?;
        let manifest = Self { name, runs, limits, viewer };
        manifest.check()?;
        Ok(manifest)
    }

    /// What an order names: a hash over the encoding.
    pub fn workload(&self) -> [u8; 32] {
        blake3::derive_key("hodei app manifest v1", &self.encode())
    }
}

/// A viewer's signature that it may read a replica's log, good for a minute and at one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub signature: [u8; 64],
}

impl Seal {
    /// What is signed.
    pub fn bytes(chain_id: u64, node: &NodeKey, lease: u64, at_ms: u64) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(5).text("hodei app look v1").uint(chain_id).bytes(&node.0).uint(lease).uint(at_ms);
        out.finish()
    }

    /// Whether `viewer` sealed a look at this replica about now.
    pub fn is_of(&self, viewer: &NodeKey, chain_id: u64, node: &NodeKey, lease: u64, now_ms: u64) -> bool {
        self.at_ms.abs_diff(now_ms) <= SEAL_MS_MAX
            && is_signed(viewer, &Self::bytes(chain_id, node, lease, self.at_ms), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack::Signer;

    fn manifest() -> Manifest {
        Manifest::new("shop-2", b"wasm", Limits::default(), NodeKey([7; 32])).unwrap()
    }

    #[test]
    fn a_manifest_returns_from_its_bytes_and_no_other_spelling_is_taken() {
        let largest = Runs::Component(Component { hash: [1; 32], bytes: COMPONENT_BYTES_MAX });
        let longest = Manifest { name: "a".repeat(NAME_BYTES_MAX), runs: largest, ..manifest() };
        for manifest in [manifest(), longest] {
            let bytes = manifest.encode();
            assert!(bytes.len() <= MANIFEST_BYTES_MAX);
            assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
            assert!(Manifest::decode(&[&bytes[..], &[0]].concat()).is_err());
            (0..bytes.len()).for_each(|end| assert!(Manifest::decode(&bytes[..end]).is_err(), "cut at {end}"));
        }
    }

    #[test]
    fn each_bit_of_a_manifest_changes_its_workload() {
        let (bytes, workload) = (manifest().encode(), manifest().workload());
        for at in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[at / 8] ^= 1 << (at % 8);
            if let Ok(bent) = Manifest::decode(&bent) {
                assert_ne!(bent.workload(), workload, "bit {at}");
            }
        }
    }

    #[test]
    fn fields_beyond_their_bounds_are_refused_by_name() {
        let bent = |bend: fn(&mut Manifest)| {
            let mut manifest = manifest();
            bend(&mut manifest);
            // What is written down is refused as what is made.
            assert_eq!(Manifest::decode(&manifest.encode()).unwrap_err(), manifest.check().unwrap_err());
            match manifest.check() {
                Err(ManifestError::Field { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        const fn of(bytes: u64) -> Runs {
            Runs::Component(Component { hash: [1; 32], bytes })
        }
        assert_eq!(bent(|manifest| manifest.runs = of(0)), "bytes");
        assert_eq!(bent(|manifest| manifest.runs = of(COMPONENT_BYTES_MAX + 1)), "bytes");
        assert_eq!(bent(|manifest| manifest.limits.fuel = 0), "fuel");
        assert_eq!(bent(|manifest| manifest.limits.fuel = Limits::FUEL_MAX + 1), "fuel");
        assert_eq!(bent(|manifest| manifest.limits.memory_bytes = Limits::MEMORY_BYTES_MIN - 1), "memory_bytes");
        assert_eq!(bent(|manifest| manifest.limits.memory_bytes = Limits::MEMORY_BYTES_MAX + 1), "memory_bytes");
        assert_eq!(bent(|manifest| manifest.limits.deadline_ms = 0), "deadline_ms");
        assert_eq!(bent(|manifest| manifest.limits.deadline_ms = Limits::DEADLINE_MS_MAX + 1), "deadline_ms");
        assert_eq!(bent(|manifest| manifest.limits.request_bytes = Limits::BODY_BYTES_MAX + 1), "request_bytes");
        assert_eq!(bent(|manifest| manifest.limits.response_bytes = Limits::BODY_BYTES_MAX + 1), "response_bytes");
    }

    #[test]
    fn an_app_is_named_like_a_host() {
        for name in ["a", "shop", "shop-2", "0"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "A", "a.b", "ä", "a_b", &"a".repeat(NAME_BYTES_MAX + 1)] {
            assert!(!is_name(name), "{name}");
        }
        let named = Manifest { name: "-".into(), ..manifest() };
        assert_eq!(named.check(), Err(ManifestError::Name("-".into())));
    }

    #[test]
    fn another_component_is_not_what_a_manifest_names() {
        assert_eq!(manifest().check_component(b"wasm"), Ok(()));
        assert_eq!(manifest().check_component(b"wasn"), Err(ManifestError::Component));
        assert_eq!(manifest().check_component(b"was"), Err(ManifestError::Length { expected: 4, found: 3 }));
    }

    #[test]
    fn a_seal_holds_for_one_viewer_host_lease_and_minute() {
        let (signer, node) = (Signer::new(&[1; 32]), NodeKey([2; 32]));
        let seal = Seal { at_ms: 100_000, signature: signer.sign(&Seal::bytes(5, &node, 9, 100_000)) };
        let viewer = signer.node();
        assert!(seal.is_of(&viewer, 5, &node, 9, 100_000 + SEAL_MS_MAX));
        assert!(!seal.is_of(&viewer, 5, &node, 9, 100_001 + SEAL_MS_MAX));
        assert!(!seal.is_of(&viewer, 5, &node, 9, 100_000 - SEAL_MS_MAX - 1));
        assert!(!seal.is_of(&viewer, 6, &node, 9, 100_000));
        assert!(!seal.is_of(&viewer, 5, &NodeKey([3; 32]), 9, 100_000));
        assert!(!seal.is_of(&viewer, 5, &node, 8, 100_000));
        assert!(!seal.is_of(&NodeKey([4; 32]), 5, &node, 9, 100_000));
        assert!(!Seal { at_ms: 100_001, ..seal }.is_of(&viewer, 5, &node, 9, 100_000));
    }
}
