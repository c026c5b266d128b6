//! Set one owner, one provider and one deal between them.

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall;
use hodei_types::abi::{DEALS, IDeals, IProviders, PROVIDERS};

use super::world::{COIN, Host, Person, World, params};
use crate::execute::{Applied, Params};

pub(super) struct Scene {
    pub(super) world: World,
    pub(super) owner: Person,
    pub(super) host: Host,
    pub(super) bucket: B256,
    pub(super) deal: u64,
}

/// One owner and one provider, who have nothing between them yet.
pub(super) fn pair(rules: Params) -> (World, Person, Host) {
    let (owner, operator) = (Person::new(1), Person::new(2));
    let mut world = World::with(rules, &[owner.address, operator.address]);
    let host = Host::new(1, operator);
    world.register(&host);
    (world, owner, host)
}

/// One owner, one provider, one deal of `leaves` leaves.
pub(super) fn scene(leaves: usize) -> Scene {
    scene_by(params(), 10 * COIN, leaves)
}

/// The same by other rules, and with another escrow.
pub(super) fn scene_by(rules: Params, escrow: u128, leaves: usize) -> Scene {
    let (mut world, owner, mut host) = pair(rules);
    let (bucket, deals) = world.deals(&owner, 1, &[&host], escrow);
    let deal = deals[0];
    if leaves > 0 {
        let post = host.add(deal, leaves, &owner);
        world.must(owner.address, DEALS, 0, IDeals::postCall { posts: vec![post] }.abi_encode());
    }
    Scene { world, owner, host, bucket, deal }
}

impl Scene {
    pub(super) fn deal(&self) -> IDeals::Deal {
        self.world.view(DEALS, IDeals::getCall { deal: self.deal })
    }

    pub(super) fn touch(&mut self) {
        let call = IDeals::touchCall { deals: vec![self.deal] }.abi_encode();
        self.world.must(self.owner.address, DEALS, 0, call);
    }

    pub(super) fn close(&mut self) -> Applied {
        let call = IDeals::closeCall { deals: vec![self.deal] }.abi_encode();
        self.world.must(self.owner.address, DEALS, 0, call)
    }

    pub(super) fn collateral(&self) -> U256 {
        self.world.view(PROVIDERS, IProviders::getCall { node: self.host.node }).collateral
    }

    /// Lets `n` windows pass without an answer.
    pub(super) fn miss(&mut self, n: u64) {
        let until = self.world.window() + n;
        while self.world.window() < until {
            self.world.idle(1);
        }
    }
}

pub(super) fn coins(n: u128) -> U256 {
    U256::from(n * COIN)
}
