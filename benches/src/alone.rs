//! Execute blocks on one thread over a state in memory, without consensus, a disk or signatures.

use alloy_consensus::{Signed as AlloySigned, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Signature, TxKind, U256, keccak256};
use anyhow::{Result, bail};
use hodei_ledger::{
    execute::{Applied, Env, Executor, Fault, GAS_PER_TX_MAX, Need, Params, Signed, View},
    genesis::Slashing,
};
use std::collections::BTreeMap;

pub(crate) const CHAIN: u64 = 7;

/// A ledger of one. All of its state is in one view, which no block is without: what is not in there is not at all.
pub(crate) struct Alone {
    view: View,
    env: Env,
    nonces: BTreeMap<Address, u64>,
}

impl Alone {
    /// Everybody in `rich` has all the coin they may ever need.
    pub(crate) fn new(rich: &[Address]) -> Result<Self> {
        let env = Env {
            height: 0,
            time_ms: 1_000_000,
            parent_time_ms: 1_000_000,
            beneficiary: Address::repeat_byte(0xfe),
            base_fee: 1,
            // As many as one likes in a block.
            gas_limit: 1 << 40,
            mix_hash: B256::ZERO,
            parent_hash: B256::ZERO,
        };
        let mut alone = Self { view: View::new(), env, nonces: BTreeMap::new() };
        let coins = U256::from(1_u128 << 110);
        let allocations: Vec<_> = rich.iter().map(|address| (*address, coins)).collect();
        let mut executor = alone.begin();
        drive(&mut executor, |executor| executor.genesis(&allocations))?;
        drive(&mut executor, Executor::begin)?;
        alone.end(executor);
        Ok(alone)
    }

    fn begin(&mut self) -> Executor {
        self.env.height += 1;
        self.env.parent_time_ms = self.env.time_ms;
        self.env.time_ms += 1000;
        self.env.parent_hash = keccak256(self.env.height.to_be_bytes());
        self.env.mix_hash = keccak256(self.env.parent_hash);
        let params = Params {
            chain_id: CHAIN,
            window_ms: 86_400_000,
            slashing: Slashing::default(),
            settlement: Default::default(),
        };
        Executor::new(params, self.env, std::mem::take(&mut self.view))
    }

    fn end(&mut self, mut executor: Executor) {
        self.view = std::mem::take(executor.view());
        let outcome = executor.finish();
        self.view.advance(&outcome.writes, &outcome.codes);
    }

    /// One block, a second after the last; each of its calls must succeed. What they did.
    pub(crate) fn block(&mut self, txs: &[Signed]) -> Result<Vec<Applied>> {
        let mut executor = self.begin();
        if drive(&mut executor, Executor::begin)? {
            drive(&mut executor, Executor::system)?;
        }
        let mut done = Vec::with_capacity(txs.len());
        for tx in txs {
            let applied = drive(&mut executor, |executor| executor.apply(tx))?;
            if !applied.success {
                bail!("a call of {} reverted: {}", tx.sender, applied.output);
            }
            done.push(applied);
        }
        self.end(executor);
        Ok(done)
    }

    /// A call with the sender's next nonce; execution does not look at signatures.
    pub(crate) fn tx(&mut self, from: Address, to: Address, value: u128, data: Vec<u8>) -> Signed {
        let nonce = self.nonces.entry(from).or_default();
        let tx = TxEip1559 {
            chain_id: CHAIN,
            nonce: *nonce,
            gas_limit: GAS_PER_TX_MAX,
            max_fee_per_gas: 2,
            max_priority_fee_per_gas: 1,
            to: TxKind::Call(to),
            value: U256::from(value),
            input: data.into(),
            ..TxEip1559::default()
        };
        *nonce += 1;
        let signature = Signature::new(U256::from(1), U256::from(1), false);
        let envelope = TxEnvelope::Eip1559(AlloySigned::new_unhashed(tx, signature));
        Signed { hash: *envelope.hash(), envelope, sender: from }
    }
}

/// Tells a step that whatever it misses is absent, until it is done.
fn drive<T>(executor: &mut Executor, mut step: impl FnMut(&mut Executor) -> Result<T, Fault>) -> Result<T> {
    loop {
        let needs = match step(executor) {
            Err(Fault::Missing(needs)) => needs,
            other => return Ok(other?),
        };
        for need in needs {
            match need {
                Need::Key(key) => executor.view().load(key, None),
                Need::Code(hash) => bail!("no contract is called here, and code {hash} is asked for"),
            }
        }
    }
}
