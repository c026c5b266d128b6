//! Certify small blocks with a key dealt for the test: what a ledger says of anchors, without one.

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, Transaction as _, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Encodable as _;
use alloy_sol_types::{SolCall as _, SolEvent as _, SolValue as _};
use commonware_codec::Encode as _;
use commonware_consensus::{
    simplex::{
        scheme::bls12381_threshold::vrf,
        types::{Finalization, Finalize, Proposal},
    },
    types::{Epoch, Round, View},
};
use commonware_cryptography::{
    Signer as _,
    bls12381::{
        dkg::feldman_desmedt::deal,
        primitives::{sharing::Mode, variant::MinSig},
    },
    ed25519, keccak256 as digest,
};
use commonware_parallel::Sequential;
use commonware_utils::{N3f1, TestRng, TryCollect as _, non_empty, ordered::Set};
use futures::future::{BoxFuture, FutureExt as _, ready};
use hodei_ledger::{genesis::chain_id, light::consensus_namespace};
use hodei_types::{
    abi::{ANCHORS, IAnchors, IProviders, PROVIDERS},
    ack::Signer,
    chain::{Account, AnchorProof, Certificate, Chain, ChainError, Head, Log, LogFilter, TxReceipt},
    checkpoint::{Registration, anchor_leaf},
    merkle,
    network::NetworkKey,
    transport::NodeKey,
};
use std::sync::Mutex;

type Scheme = vrf::Scheme<ed25519::PublicKey, MinSig>;

const GENESIS: B256 = B256::repeat_byte(0x5c);

pub(crate) fn node_signer(seed: u8) -> Signer {
    Signer::new(&[seed; 32])
}

fn offer() -> IProviders::Offer {
    IProviders::Offer {
        zone: "north".into(),
        network: "as64500".into(),
        addresses: Bytes::new(),
        capacityBytes: 1 << 40,
        priceStore: 7,
        priceRead: 8,
        class: 1,
    }
}

fn registration(node: NodeKey, operator: Address) -> Registration {
    Registration { node, operator, version: 1, offer: keccak256(offer().abi_encode()) }
}

struct Block {
    header: Header,
    leaves: Vec<Vec<u8>>,
    preimage: Vec<u8>,
}

/// Makes a block per transaction or registration, and certifies only each `later`-th after it.
pub(crate) struct TestChain {
    schemes: Vec<Scheme>,
    key: NetworkKey,
    later: usize,
    blocks: Mutex<Vec<Block>>,
    txs: Mutex<Vec<(B256, u64)>>,
    registered: Mutex<Vec<(NodeKey, Address, u64)>>,
}

impl TestChain {
    pub(crate) fn new(later: usize) -> Self {
        let players: Set<_> =
            (0..4).map(|seed| ed25519::PrivateKey::from_seed(seed).public_key()).try_collect().unwrap();
        let (output, shares) = deal::<MinSig, _, N3f1>(TestRng::new(5), Mode::NonZeroCounter, players.clone()).unwrap();
        let sharing = output.public().clone();
        let group = sharing.public().encode().as_ref().try_into().unwrap();
        let namespace = consensus_namespace(&GENESIS);
        let signer = |player| {
            let share = shares.get_value(player).unwrap().clone();
            Scheme::signer(&namespace, players.clone(), sharing.clone(), share).unwrap()
        };
        Self {
            schemes: players.iter().map(signer).collect(),
            key: NetworkKey { genesis: GENESIS, group },
            later,
            blocks: Mutex::default(),
            txs: Mutex::default(),
            registered: Mutex::default(),
        }
    }

    pub(crate) fn key(&self) -> NetworkKey {
        self.key
    }

    pub(crate) fn chain_id(&self) -> u64 {
        chain_id(&GENESIS)
    }

    pub(crate) fn register(&self, node: NodeKey, operator: Address) {
        let height = self.block(vec![registration(node, operator).leaf()]);
        self.registered.lock().unwrap().push((node, operator, height));
    }

    /// A block with these leaves beside two others', and `later` empty ones.
    fn block(&self, leaves: Vec<Vec<u8>>) -> u64 {
        let mut blocks = self.blocks.lock().unwrap();
        let height = blocks.len() as u64 + 1;
        let others = [anchor_leaf(&[1; 32]), anchor_leaf(&[2; 32])];
        let mut batches = vec![[&others[..], &leaves].concat()];
        batches.resize(1 + self.later, Vec::new());
        for leaves in batches {
            let number = blocks.len() as u64 + 1;
            let parent_hash = blocks.last().map_or(GENESIS, |block| block.header.hash_slow());
            let preimage = vec![number as u8; 240];
            let hashes: Vec<_> = leaves.iter().map(|leaf| merkle::leaf(leaf)).collect();
            let commitment = keccak256([&preimage[..], merkle::root(&hashes).as_slice()].concat());
            let random = |tag: u8| keccak256([tag, number as u8]);
            let header = Header {
                parent_hash,
                ommers_hash: EMPTY_OMMER_ROOT_HASH,
                beneficiary: Address::repeat_byte(3),
                state_root: random(1),
                transactions_root: random(2),
                receipts_root: random(3),
                number,
                gas_limit: 30_000_000,
                gas_used: 21_000,
                timestamp: 1_800_000_000 + number,
                extra_data: Bytes::copy_from_slice(&(1_800_000_000_123 + 1000 * number).to_be_bytes()),
                mix_hash: random(4),
                base_fee_per_gas: Some(1_000_000_000),
                withdrawals_root: Some(random(5)),
                blob_gas_used: Some(0),
                excess_blob_gas: Some(0),
                parent_beacon_block_root: Some(commitment),
                requests_hash: Some(random(6)),
                ..Header::default()
            };
            blocks.push(Block { header, leaves, preimage });
        }
        height
    }

    fn finalization(&self, block: B256, number: u64) -> Bytes {
        let round = Round::new(Epoch::new(0), View::new(number + 1000));
        let proposal = Proposal::new(round, View::new(number + 999), digest::Digest::from(block.0));
        let votes: Vec<_> =
            self.schemes[..3].iter().map(|scheme| Finalize::sign(scheme, proposal.clone()).unwrap()).collect();
        let certified: Finalization<Scheme, digest::Digest> =
            Finalization::from_finalizes(&self.schemes[0], non_empty![@votes.iter()], &Sequential).unwrap();
        certified.encode().to_vec().into()
    }

    fn certified(&self, run: &[Block]) -> Certificate {
        let rlp = |block: &Block| {
            let mut rlp = Vec::new();
            block.header.encode(&mut rlp);
            rlp.into()
        };
        let last = &run[run.len() - 1].header;
        Certificate {
            headers: run.iter().map(rlp).collect(),
            finalization: self.finalization(last.hash_slow(), last.number),
        }
    }

    fn tip(&self) -> Head {
        let blocks = self.blocks.lock().unwrap();
        let height = blocks.len() as u64;
        Head { height, hash: GENESIS, time_ms: 0, base_fee: 1, chain_id: self.chain_id(), genesis: GENESIS }
    }
}

fn answer<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T, ChainError>> {
    ready(Ok(value)).boxed()
}

impl Chain for TestChain {
    fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>> {
        answer(self.tip())
    }

    fn wait(&self, _: u64) -> BoxFuture<'_, Result<Head, ChainError>> {
        answer(self.tip())
    }

    fn certificate(&self, height: u64) -> BoxFuture<'_, Result<Certificate, ChainError>> {
        let blocks = self.blocks.lock().unwrap();
        answer(self.certified(&blocks[height as usize - 1..][..=self.later]))
    }

    fn account(&self, _: Address) -> BoxFuture<'_, Result<Account, ChainError>> {
        answer(Account { balance: U256::MAX, nonce: 0, pending_nonce: 0 })
    }

    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
        use alloy_eips::eip2718::Decodable2718 as _;
        let tx = TxEnvelope::decode_2718(&mut raw.as_ref()).unwrap();
        assert_eq!(tx.to(), Some(ANCHORS));
        let call = IAnchors::anchorCall::abi_decode(tx.input()).unwrap();
        let height = self.block(vec![anchor_leaf(&call.leaf)]);
        self.txs.lock().unwrap().push((*tx.tx_hash(), height));
        answer(*tx.tx_hash())
    }

    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
        let txs = self.txs.lock().unwrap();
        let found = txs.iter().find(|(hash, _)| *hash == tx).map(|(tx, height)| TxReceipt {
            tx: *tx,
            height: *height,
            success: true,
            gas_used: 0,
            logs: Vec::new(),
            output: Bytes::new(),
        });
        answer(found)
    }

    fn call(&self, _: Address, _: Address, _: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
        answer(Bytes::new())
    }

    fn logs(&self, filter: LogFilter) -> BoxFuture<'_, Result<Vec<Log>, ChainError>> {
        assert_eq!(filter.address, Some(PROVIDERS));
        let registered = self.registered.lock().unwrap();
        let found = registered.iter().find(|(node, ..)| filter.topic1 == Some(B256::from(node.0)));
        let found = found.map(|(node, operator, height)| {
            let event = IProviders::Registered {
                node: B256::from(node.0),
                operator: *operator,
                offer: offer(),
                collateral: U256::ZERO,
            };
            let data = event.encode_log_data();
            let (topics, data) = (data.topics().to_vec(), data.data);
            Log { address: PROVIDERS, topics, data, height: *height, tx: B256::ZERO, index: 0 }
        });
        answer(found.into_iter().collect())
    }

    fn anchor(&self, height: u64, leaf: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>> {
        let blocks = self.blocks.lock().unwrap();
        let run = &blocks[height as usize - 1..][..=self.later];
        let leaves: Vec<_> = run[0].leaves.iter().map(|leaf| merkle::leaf(leaf)).collect();
        let index = run[0].leaves.iter().position(|other| *other == leaf.as_ref()).expect("it was anchored");
        let Certificate { headers, finalization } = self.certified(run);
        answer(AnchorProof {
            index: index as u64,
            size: leaves.len() as u64,
            path: merkle::inclusion_path(&leaves, index).unwrap(),
            preimage: run[0].preimage.clone().into(),
            headers,
            finalization,
        })
    }
}
