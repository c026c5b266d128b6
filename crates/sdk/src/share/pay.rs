//! Split what a reader may spend among the bucket's providers, and open its tab.
//!
//! Each provider is promised ticks by what it holds of the bucket, at one price for all or at its own; who does not answer
//! now, a single one, for coins bound there serve nobody while it is away. The tabs of a
//! share are alike but for their chains. They are drawn before the share is made, and opened once it is, one after another:
//! whoever stops us before has bound no coin. Upon one that cannot be opened the readers of those that are have their
//! passes all the same, and no further one is bound. What the process's end leaves open without a pass returns with the
//! tab's end.

use crate::{
    bucket::{AT_ONCE, Record as Bucket},
    cloud::{Cloud, Runtime},
    deal::Deal,
    fault::Fault,
    tab::{Promise, Tab},
};
use alloy_primitives::{B256, U256};
use futures::{StreamExt as _, stream};
use hodei_storage::share::{FARES_MAX, Fare};
use hodei_types::{
    abi::ITabs,
    slice::ShardId,
    tab::{GWEI, Leaf, TICK_BYTES, TICKS_MAX, TabError, tick_price},
    transport::{NodeKey, Transport},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use zeroize::Zeroizing;

/// Leaves a provider takes of one tab: 256 GiB.
const LEAVES_EACH: u32 = 64;
/// After the pass ends its tab takes claims for so many windows; the last of them takes no ticks.
const CLAIM_WINDOWS: u64 = 2;
/// The ledger keeps a tab no longer: 400 days.
const TERM_MS_MAX: u64 = 400 * 86_400_000;
/// Beside those, so that the ledger's clock may be ahead.
const MARGIN_MS: u64 = 60_000;
/// A provider that holds little has this part of the weight of the one that holds most: it may be put to before the pass
/// ends, and one that is paid for nothing would make no tab.
const LEAST_PART: u64 = 64;
/// After a tab could not be opened for now, and how often.
const OPEN_REST: Duration = Duration::from_secs(2);
const OPEN_TRIES: u32 = 5;
/// A tab is closed so long after its end: the clock of the ledger's windows may be behind its blocks' time.
const OVER_MS: u64 = 1000;

/// What a tab for one reader promises, and binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fees {
    /// By leaf.
    pub fares: Vec<Fare>,
    /// Wei bound for each reader.
    pub deposit: U256,
    /// How long from now; what was not claimed then returns.
    pub term_ms: u64,
    /// Less is bound than was said: some provider takes no more of one tab.
    pub is_capped: bool,
    /// Who did not answer: what it is promised is read once it is back.
    pub away: BTreeSet<NodeKey>,
}

/// Bytes that one provider takes ticks for, of one tab.
pub const BYTES_EACH_MAX: u64 = LEAVES_EACH as u64 * TICKS_MAX as u64 * TICK_BYTES;

impl Fees {
    /// Least and most wei that a MiB pays, by provider.
    pub fn price(&self) -> Option<(u128, u128)> {
        let prices = || self.fares.iter().map(|fare| fare.price);
        prices().min().zip(prices().max())
    }

    /// Bytes it pays for in all at those who are there, from whichever of them they come.
    pub fn paid_bytes(&self) -> u64 {
        bytes(self.fares.iter().filter(|fare| !self.away.contains(&fare.node)))
    }

    /// Bytes beside those that it pays for at those who are away.
    pub fn held_bytes(&self) -> u64 {
        bytes(self.fares.iter().filter(|fare| self.away.contains(&fare.node)))
    }
}

fn bytes<'a>(fares: impl Iterator<Item = &'a Fare>) -> u64 {
    fares.map(|fare| u64::from(fare.ticks) * TICK_BYTES).sum()
}

/// A provider, its share of the whole, which is zero for who does not answer, and wei per tick.
type Seat = (NodeKey, u64, u128);

/// Splits `wei` by the seats' shares; the sum is at most that. Also tells whether somebody's share is more than is taken.
fn split(wei: U256, seats: &[Seat]) -> Result<(Vec<Fare>, bool), Fault> {
    if !seats.is_empty() && seats.iter().all(|(_, _, price)| *price == 0) {
        return Err(Fault::Setting("these providers ask nothing for reads: leave out --pay, or say --per-gib"));
    }
    let least = seats.iter().map(|(_, weight, _)| weight / LEAST_PART).max().unwrap_or(0) + 1;
    // Where nobody answers, all are alike.
    let is_anybody = seats.iter().any(|(_, weight, _)| *weight > 0);
    let (there, away): (Vec<&Seat>, Vec<&Seat>) = seats.iter().partition(|(_, weight, _)| *weight > 0 || !is_anybody);
    let idle: U256 =
        away.iter().map(|(.., price)| U256::from(*price).div_ceil(U256::from(GWEI)) * U256::from(GWEI)).sum();
    let seats = there.iter().map(|(node, weight, price)| (node, (*weight).max(least), price));
    let whole: U256 = seats.clone().map(|(_, weight, _)| U256::from(weight)).sum();
    // One tick for the dearest for its weight, and what the rounding below takes.
    let ticks = seats.clone().filter(|(.., price)| **price > 0).map(|(_, weight, price)| {
        let part = U256::from(*price) + U256::from(GWEI) * U256::from(LEAVES_EACH);
        (part * whole).div_ceil(U256::from(weight))
    });
    let few = Fault::PayTooLow { least: ticks.max().unwrap_or_default() + idle, found: wei };
    // No ledger has more, and what is multiplied below stays in its bits.
    let wei = wei.saturating_sub(idle).min(U256::from(u128::MAX));
    let (mut fares, mut is_capped) = (Vec::new(), false);
    fares.extend(away.iter().map(|(node, _, price)| Fare { node: *node, ticks: 1, price: *price }));
    for (node, weight, price) in seats {
        // A leaf's sum is rounded up to whole gwei.
        let part = (wei * U256::from(weight) / whole).saturating_sub(U256::from(GWEI) * U256::from(LEAVES_EACH));
        let ticks = part.checked_div(U256::from(*price)).unwrap_or(U256::MAX);
        let most = U256::from(LEAVES_EACH * TICKS_MAX);
        // What costs nothing binds nothing.
        is_capped |= *price > 0 && ticks > most;
        let ticks = ticks.min(most).to::<u32>();
        if ticks == 0 {
            return Err(few);
        }
        for done in (0..ticks).step_by(TICKS_MAX as usize) {
            fares.push(Fare { node: *node, ticks: (ticks - done).min(TICKS_MAX), price: *price });
        }
    }
    if fares.is_empty() || fares.len() > FARES_MAX {
        return Err(Fault::Setting("a tab has 1 to 1,024 leaves of 4 GiB: pay less, or for fewer providers"));
    }
    Ok((fares, is_capped))
}

/// What opening a tab by these binds, in wei.
fn deposit(fares: &[Fare]) -> Result<U256, Fault> {
    let gwei = |fare: &Fare| {
        let Fare { node, ticks, price } = *fare;
        Leaf { provider: B256::from(node.0), anchor: B256::ZERO, ticks, price }.gwei()
    };
    let sum = fares.iter().try_fold(0u64, |sum, fare| sum.checked_add(gwei(fare)?).ok_or(TabError::Sum));
    Ok(U256::from(sum.map_err(no_tab)?) * U256::from(GWEI))
}

fn no_tab(_: TabError) -> Fault {
    Fault::Setting("these prices make no tab: they draw more than the ledger counts")
}

fn promises(fares: &[Fare]) -> Vec<Promise> {
    fares.iter().map(|fare| Promise { provider: fare.node, ticks: fare.ticks, price: fare.price }).collect()
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// What a tab of at most `wei` for one reader would promise until `expires_ms`, at `per_gib` wei per GiB or at what
    /// each provider asks; changes nothing.
    pub async fn fees(&self, bucket: &str, wei: U256, per_gib: Option<u128>, expires_ms: u64) -> Result<Fees, Fault> {
        let mut seats: BTreeMap<NodeKey, (u64, u128)> = BTreeMap::new();
        let deals = self.deals(bucket).await?;
        let dearest = deals.iter().map(|deal| deal.offer.price_read).max().unwrap_or_default();
        let away = self.away(&deals).await;
        for deal in deals {
            let asks = tick_price(deal.offer.price_read);
            let price = per_gib.map_or(asks, tick_price);
            if price < asks {
                let found = U256::from(per_gib.unwrap_or_default());
                return Err(Fault::ReadPriceTooLow { least: U256::from(dearest), found });
            }
            let held = if away.contains(&deal.offer.node) { 0 } else { deal.state.leaves.max(1) };
            seats.entry(deal.offer.node).or_insert((0, price)).0 += held;
        }
        let seats: Vec<Seat> = seats.into_iter().map(|(node, (weight, price))| (node, weight, price)).collect();
        let (fares, is_capped) = split(wei, &seats)?;
        let window_ms = self.calendar().await?.window_secs() * 1000;
        let term_ms = expires_ms.saturating_sub(self.now_ms()) + CLAIM_WINDOWS * window_ms + MARGIN_MS;
        if term_ms > TERM_MS_MAX {
            return Err(Fault::Setting("the ledger keeps a tab for 400 days: let the pass end before"));
        }
        let deposit = deposit(&fares)?;
        Ok(Fees { fares, deposit, term_ms, is_capped, away })
    }

    /// Who of these does not answer at all; each is asked once.
    async fn away(&self, deals: &[Deal]) -> BTreeSet<NodeKey> {
        let asked: BTreeMap<NodeKey, _> =
            deals.iter().map(|deal| (deal.offer.node, deal.clone().provider(Vec::new()))).collect();
        let asked = asked.into_iter().map(|(node, provider)| {
            let cloud = self.clone();
            async move { (node, cloud.0.engine.answers(&provider).await) }
        });
        let asked: Vec<_> = asked.collect();
        let answers: Vec<(NodeKey, bool)> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        answers.into_iter().filter(|(_, is_there)| !is_there).map(|(node, _)| node).collect()
    }

    /// So many tabs of this wallet's owner for a share's passes, each with a seed of its own, open nowhere yet. They cost a
    /// hash for each tick.
    pub(super) async fn draw(&self, fares: &[Fare], record: &ShardId, count: usize) -> Result<Vec<Tab>, Fault> {
        let (chain_id, payer, promises) = (self.0.chain_id, self.0.wallet.owner(), promises(fares));
        let seeds: Vec<(B256, Zeroizing<[u8; 32]>)> =
            (0..count).map(|at| (self.tab_salt(record, at), Zeroizing::new(self.random()))).collect();
        let making = self.0.context.child("chains").shared(true);
        let draw = move || {
            seeds.iter().map(|(salt, seed)| Tab::draw(chain_id, payer, *salt, seed, &promises)).collect::<Vec<_>>()
        };
        let drawn = making.spawn(move |_| async move { draw() }).await;
        let drawn = drawn.map_err(|_| Fault::Local("the runtime is shutting down".into()))?;
        drawn.into_iter().collect::<Result<_, _>>().map_err(no_tab)
    }

    /// Opens the tabs of a share's passes, in their order; binds their deposits. Gives how many are open, and why no
    /// more are.
    pub(super) async fn open_tabs(&self, bucket: &Bucket, tabs: &[Tab], fees: &Fees) -> (usize, Option<Fault>) {
        for (at, tab) in tabs.iter().enumerate() {
            let mut tries = 1;
            while let Err(error) = self.0.buckets.open_tab(tab, bucket.id, fees.term_ms).await {
                // One whose answer was lost is not paid twice: the ledger is asked first.
                let may_help = error.is_temporary() || matches!(error, Fault::Pending { .. });
                if tries < OPEN_TRIES && may_help {
                    tries += 1;
                    self.0.context.sleep(OPEN_REST).await;
                    continue;
                }
                // An earlier try may have been executed meanwhile, and this one refused for it.
                if !matches!(self.0.buckets.tab(tab.id()).await, Ok(Some(known)) if known.root == tab.tree().root()) {
                    return (at, Some(error));
                }
                break;
            }
        }
        (tabs.len(), None)
    }

    /// Takes back what is left of this owner's tabs whose claims ended.
    pub(crate) async fn end_tabs(&self) -> Result<(), Fault> {
        let head = self.0.wallet.chain().head().await?;
        let is_over = |tab: &ITabs::Tab| head.time_ms > tab.untilMs.saturating_add(OVER_MS);
        let over: Vec<B256> =
            self.0.buckets.tabs().await?.iter().filter(|tab| is_over(tab)).map(|tab| tab.id).collect();
        if !over.is_empty() {
            let back: U256 = self.0.buckets.close_tabs(&over).await?.into_iter().sum();
            tracing::info!(tabs = over.len(), wei = %back, "what is left of tabs came back");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(at: u8, weight: u64, price: u128) -> Seat {
        (NodeKey([at; 32]), weight, price)
    }

    fn cost(fares: &[Fare]) -> U256 {
        fares
            .iter()
            .map(|fare| (U256::from(fare.ticks) * U256::from(fare.price)).div_ceil(U256::from(GWEI)) * U256::from(GWEI))
            .sum()
    }

    #[test]
    fn what_is_paid_is_split_by_what_is_held_and_never_exceeded() {
        let coin = U256::from(10u64).pow(U256::from(18));
        let seats = [
            seat(1, 10, 1_000_000_000_000_000),
            seat(2, 30, 1_000_000_000_000_000),
            seat(3, 10, 3_000_000_000_000_001),
        ];
        let (fares, is_capped) = split(coin, &seats).unwrap();
        assert!(!is_capped);
        let ticks: Vec<_> = fares.iter().map(|fare| (fare.node.0[0], fare.ticks)).collect();
        assert_eq!(ticks, [(1, 199), (2, 599), (3, 66)]);
        assert!(cost(&fares) <= coin);
        // More than a leaf has.
        let (fares, _) = split(coin * U256::from(50), &seats).unwrap();
        let of =
            |node: u8| fares.iter().filter(|fare| fare.node.0[0] == node).map(|fare| fare.ticks).collect::<Vec<_>>();
        assert_eq!((of(1), of(2).len(), of(2)[0]), (vec![4096, 4096, 1807], 8, 4096));
        assert!(cost(&fares) <= coin * U256::from(50));
        // What costs nothing is bounded by what a provider takes; where nothing costs anything, nothing is paid.
        let (fares, is_capped) = split(coin, &[seat(1, 1, 0), seat(2, 1, 1_000_000_000_000_000)]).unwrap();
        assert_eq!((fares.len(), fares[64].ticks, is_capped), (LEAVES_EACH as usize + 1, 499, false));
        // What costs something is bounded so too, and that is told.
        let (fares, is_capped) = split(coin, &[seat(1, 1, 1_000)]).unwrap();
        let bytes: u64 = fares.iter().map(|fare| u64::from(fare.ticks) * TICK_BYTES).sum();
        assert_eq!((bytes, BYTES_EACH_MAX, is_capped), (256 << 30, 256 << 30, true));
        let error = split(coin, &[seat(1, 1, 0), seat(2, 1, 0)]).unwrap_err();
        assert!(error.to_string().contains("ask nothing for reads"), "{error}");
        // One that holds next to nothing is paid for a little.
        let seats = [seat(1, 1, 1_000_000_000_000_000), seat(2, 1_000_000, 1_000_000_000_000_000)];
        let (fares, _) = split(coin, &seats).unwrap();
        assert_eq!(fares.iter().map(|fare| fare.ticks).collect::<Vec<_>>(), [15, 984]);
        assert_eq!(deposit(&fares).unwrap(), cost(&fares));
        // Too little says what is enough, to the wei.
        for little in [0u64, 1_000_000] {
            let error = split(U256::from(little), &seats).unwrap_err();
            let Fault::PayTooLow { least, found } = error else { panic!("{error}") };
            assert_eq!(found, U256::from(little));
            assert!(split(least, &seats).unwrap().0.iter().all(|fare| fare.ticks > 0));
            assert!(matches!(split(least - U256::from(1), &seats), Err(Fault::PayTooLow { .. })));
        }
        assert!(split(U256::MAX, &seats).unwrap().0.iter().all(|fare| fare.ticks == TICKS_MAX));
        split(coin, &[]).unwrap_err();
        let many: Vec<Seat> = (0..17).map(|at| seat(at, 1, 1)).collect();
        split(coin, &many).unwrap_err();
    }

    #[test]
    fn what_is_bound_at_who_is_away_is_not_said_to_be_read() {
        let fare = |node: u8, ticks| Fare { node: NodeKey([node; 32]), ticks, price: 1 };
        let fares = vec![fare(1, 5), fare(2, 7), fare(2, 1)];
        let of = |away: &[u8]| {
            let away = away.iter().map(|node| NodeKey([*node; 32])).collect();
            let fees = Fees { fares: fares.clone(), deposit: U256::ZERO, term_ms: 0, is_capped: false, away };
            (fees.paid_bytes() / TICK_BYTES, fees.held_bytes() / TICK_BYTES)
        };
        assert_eq!([of(&[]), of(&[2]), of(&[1, 2])], [(13, 0), (5, 8), (0, 13)]);
        // Who is away is promised a single tick: the coins are bound where they serve, and little is enough.
        let price = 1_000_000_000_000_000;
        let seats = [seat(1, 0, price), seat(2, 100, price), seat(3, 100, price)];
        let ticks = |wei: U256, seats: &[Seat]| {
            split(wei, seats).map(|(fares, _)| fares.iter().map(|fare| fare.ticks).collect::<Vec<_>>())
        };
        assert_eq!(ticks(U256::from(10u64).pow(U256::from(18)), &seats).unwrap(), [1, 499, 499]);
        assert_eq!(ticks(U256::from(price) * U256::from(4), &seats).unwrap(), [1, 1, 1]);
        let Fault::PayTooLow { least, .. } = ticks(U256::ZERO, &seats).unwrap_err() else { panic!() };
        assert_eq!(ticks(least, &seats).unwrap(), [1, 1, 1]);
        ticks(least - U256::from(1), &seats).unwrap_err();
        // Nobody is there: all may come back.
        assert_eq!(ticks(U256::from(price) * U256::from(7), &[seat(1, 0, price), seat(2, 0, price)]).unwrap(), [3, 3]);
    }
}
