//! Replay an exported chain into an empty store.
//!
//! Upon each run of blocks that a certificate makes final, every one is executed on databases of its own that
//! began empty, and its roots are compared; then blocks and certificates go into the archives a member starts
//! from. The member itself replays them once more at its first start, because its databases and what it has
//! processed must move as one. The databases used here lie under another prefix, to be removed.

use alloy_primitives::{B256, Bytes};
use commonware_codec::{Copying, Decode as _};
use commonware_consensus::{marshal::store as archives, simplex::types::Finalization, types::Height};
use commonware_cryptography::{Digestible as _, certificate::Verifier as _};
use commonware_glue::stateful::{Finality, db::DatabaseSet as _};
use commonware_runtime::buffer::paged::CacheRef;
use commonware_storage::{archive::prunable, translator::EightCap};
use commonware_utils::NZUsize;
use hodei_types::network::NetworkKey;
use std::{
    io::{ErrorKind, Read},
    num::{NonZeroU16, NonZeroU64},
    sync::Arc,
};

use crate::{
    application::{Door, Rules},
    beacon::{Beacon, Threshold},
    block::{Block, Digest},
    execute::Signed,
    genesis::Genesis,
    history::{Checker, Entry, FRAME_HEAD_BYTES, HEAD_BYTES, HistoryError, Kind},
    light::{LightError, Verifier},
    member::{self, Runtime},
    mempool::Senders,
    pace::Work,
    run::Effects,
    state::{self, Databases},
    store::{self, StoreError},
};

type Scheme = <Threshold as Beacon>::Scheme;
type Certificates<E> = prunable::Archive<EightCap, E, Digest, Finalization<Scheme, Digest>>;
type Archive<E> = prunable::Archive<EightCap, E, Digest, Block>;

/// Blocks between two flushes of the archives.
const FLUSH_BLOCKS: u64 = 256;

/// Why a chain was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("the file cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("the genesis file's network key is unusable: {0}")]
    Key(#[from] LightError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("this ledger already holds blocks up to {0}: import into an empty one")]
    NotEmpty(u64),
    #[error("the file begins with block {0}; to replay it must begin with block 1")]
    Begins(u64),
    #[error("block {height} is not what its transactions lead to: {reason}")]
    Replay { height: u64, reason: String },
    #[error("block {height}: its certificate is of another form")]
    Form { height: u64 },
    #[error("the archive failed: {0}")]
    Archive(#[from] commonware_storage::archive::Error),
}

/// What an import left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    pub height: u64,
    pub state_root: B256,
}

/// Checks and replays a whole file into the empty store under `prefix`.
///
/// What lies under `scratch` is to be removed then, and upon a failure what lies under `prefix` too.
pub async fn import<E: Runtime>(
    context: E,
    genesis: Arc<Genesis>,
    prefix: &str,
    scratch: &str,
    file: &mut (dyn Read + Send),
) -> Result<Imported, ImportError> {
    let key = NetworkKey { genesis: genesis.hash(), group: genesis.group_key() };
    let mut head = [0; HEAD_BYTES];
    fill(file, &mut head, HistoryError::Magic)?;
    let mut checker = Checker::new(Verifier::new(&key)?, &head)?;
    store::bind(&context, prefix, &genesis).await?;
    let mut import = Import::open(context, genesis, prefix, scratch, checker.next_height()).await?;
    loop {
        let mut head = [0; FRAME_HEAD_BYTES];
        fill(file, &mut head, checker.cut())?;
        let (kind, length) = checker.frame(head)?;
        let mut payload = vec![0; length];
        fill(file, &mut payload, checker.cut())?;
        match kind {
            Kind::Block => checker.block(&payload)?,
            Kind::Certificate => {
                let entries = checker.certificate(&payload)?;
                import = import.push(entries).await?;
            }
            Kind::End => break,
        }
    }
    checker.end()?;
    import.finish().await
}

fn fill(file: &mut dyn Read, bytes: &mut [u8], cut: HistoryError) -> Result<(), ImportError> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(cut.into()),
        Err(error) => Err(error.into()),
    }
}

/// Who only recovers signatures: nothing is proposed, nobody is told.
#[derive(Clone)]
struct Replaying(Arc<Senders>);

impl Work for Replaying {
    async fn arrived(&self) {
        std::future::pending().await
    }
}

impl Door for Replaying {
    fn choose(&self, _: u64) -> Vec<Arc<Signed>> {
        Vec::new()
    }
    fn recover(&self, raw: &[Bytes]) -> Option<Vec<Arc<Signed>>> {
        self.0.all(raw, &commonware_parallel::Sequential).into_iter().map(Result::ok).collect()
    }
    fn carried(&self, _: u64, _: &[B256]) {}
    async fn finalized(&self, _: &Block, _: &Effects) {}
}

/// An import under way.
struct Import<E: Runtime> {
    context: E,
    rules: Rules<Threshold, Replaying>,
    databases: Databases<E>,
    certificates: Certificates<E>,
    blocks: Archive<E>,
    parent: Block,
}

impl<E: Runtime> Import<E> {
    /// Opens the archives of the member under `prefix`, which must be empty, and databases under `scratch`.
    async fn open(
        context: E,
        genesis: Arc<Genesis>,
        prefix: &str,
        scratch: &str,
        first: u64,
    ) -> Result<Self, ImportError> {
        if first != 1 {
            return Err(ImportError::Begins(first));
        }
        let page_bytes = NonZeroU16::new(genesis.disk.page_bytes).expect("a checked genesis has pages");
        let section = NonZeroU64::new(genesis.disk.section_items).expect("a checked genesis has sections");
        let cache = CacheRef::new(page_bytes, NZUsize!(4096));
        #[expect(clippy::let_unit_value, reason = "a scheme's bound, which is nothing for threshold signatures")]
        let unbounded = Scheme::certificate_codec_config_unbounded();
        let certificates = member::archive(prefix, "finalizations", section, &cache, unbounded);
        let certificates: Certificates<E> =
            prunable::Archive::init(context.child("finalizations"), certificates).await?;
        let blocks = member::archive(prefix, "blocks", section, &cache, genesis.limits);
        let blocks: Archive<E> = prunable::Archive::init(context.child("blocks"), blocks).await?;
        if let Some(height) = archives::Certificates::last_index(&certificates) {
            return Err(ImportError::NotEmpty(height.get()));
        }
        let databases =
            Databases::<E>::init(context.child("replay"), state::config::<E>(scratch, &genesis.disk, &cache), None)
                .await;
        let parent = Block::genesis(&genesis, state::empty::<E>());
        let nobody = genesis.validators[0].key.clone();
        let beacon = Threshold::new(&genesis, &nobody, None).expect("without a share anybody follows");
        let door = Replaying(Arc::default());
        let rules = Rules::new(genesis, parent.clone(), beacon, door);
        Ok(Self { context, rules, databases, certificates, blocks, parent })
    }

    /// Replays and keeps what a certificate made final.
    async fn push(mut self, entries: Vec<Entry>) -> Result<Self, ImportError> {
        for Entry { block, finalization } in entries {
            let height = block.number();
            let replay = |reason: String| ImportError::Replay { height, reason };
            if block.header().parent_hash != self.parent.hash() {
                return Err(replay("its parent is not the block before it".into()));
            }
            let batches = self.databases.new_batches().await;
            let at = (self.context.child("execute"), block.context().clone());
            let sealed = self.rules.rerun(at, &block, &self.parent, batches, Finality::Candidate).await;
            self.databases.apply(sealed.map_err(replay)?).await;
            self.databases.finalize().await.durable().await;
            let digest = block.digest();
            if let Some(bytes) = finalization {
                let finalization =
                    Finalization::decode_cfg(Copying(bytes.as_ref()), &Scheme::certificate_codec_config_unbounded())
                        .map_err(|_| ImportError::Form { height })?;
                let put = archives::Certificates::put(self.certificates, Height::new(height), digest, &finalization);
                self.certificates = put.await?;
            }
            self.blocks = archives::Blocks::put(self.blocks, digest, &block).await?;
            if height % FLUSH_BLOCKS == 0 {
                self = self.flush().await?;
            }
            self.parent = block;
        }
        Ok(self)
    }

    async fn flush(mut self) -> Result<Self, ImportError> {
        // Blocks first: a certificate whose block is missing would be asked of peers.
        self.blocks = archives::Blocks::sync(self.blocks).await?;
        self.certificates = archives::Certificates::sync(self.certificates).await?;
        Ok(self)
    }

    async fn finish(self) -> Result<Imported, ImportError> {
        let done = self.flush().await?;
        Ok(Imported { height: done.parent.number(), state_root: done.parent.header().state_root })
    }
}
