//! Show that a reader who pays is served on, one who does not only on credit, and that the ledger pays each tick once.

use super::*;
use alloy_primitives::U256;
use alloy_sol_types::SolEvent as _;
use hodei_node::provider::{earnings::earnings, tabs::CREDIT_BYTES};
use hodei_types::{
    abi::{ITabs, TABS},
    tab::{Chain as Ticks, GWEI, Leaf, Opening, TICK_BYTES, Tree},
};
use std::sync::atomic::Ordering;

/// A deal of another bucket at the same provider, which a stranger owns.
pub(super) const STRANGERS_DEAL: u64 = 70;

pub(super) fn strangers_bucket() -> B256 {
    B256::repeat_byte(10)
}

/// What a tick costs at a provider that asks for as much as by default, and a price that is no whole gwei.
const LEAST: u128 = 976_562_500_000;
const PRICE: u128 = LEAST + 3 * GWEI + 1;
const TICKS: u32 = 90;
/// What a reader takes before it is refused, in MiB.
const ON_CREDIT: u64 = CREDIT_BYTES / TICK_BYTES + 1;

/// A tab as its payer has it, of one leaf for somebody else and two for the provider, of which the second is beside.
struct Paying {
    ticks: Ticks,
    opening: Opening,
    beside: (Ticks, Opening),
    tab: ITabs::Tab,
}

impl Paying {
    fn new(seed: u8, price: u128) -> Self {
        let (id, node) = (B256::repeat_byte(seed), B256::from(Signer::new(&PROVIDER).node().0));
        let ticks = Ticks::prepare(&[seed; 32], id, node, 1, TICKS).unwrap();
        let leaf = Leaf { provider: node, anchor: ticks.anchor(), ticks: TICKS, price };
        let other = Leaf { provider: B256::repeat_byte(1), ..leaf };
        let second = Ticks::prepare(&[seed; 32], id, node, 2, TICKS).unwrap();
        let tree = Tree::build(vec![other, leaf, Leaf { anchor: second.anchor(), ..leaf }]).unwrap();
        let tab = ITabs::Tab {
            id,
            payer: Default::default(),
            state: 1,
            bucket: bucket(),
            root: tree.root(),
            gwei: tree.gwei(),
            left: u128::from(tree.gwei()) * GWEI,
            claimed: 0,
            untilMs: u64::MAX,
        };
        Self { ticks, opening: tree.opening(1).unwrap(), beside: (second, tree.opening(2).unwrap()), tab }
    }

    fn grant(&self, reader: NodeKey) -> Grant {
        Grant::sign_metered(&OWNER, CHAIN_ID, bucket(), &reader, self.tab.id, u64::MAX).unwrap()
    }

    fn tick(&self, index: u32, grant: &Grant, opening: Vec<u8>) -> Request {
        let value = self.ticks.tick(index).unwrap().value.0;
        let tick = wire::Tick { tab: self.tab.id.0, leaf: 1, index, value, opening };
        Request::Tick { deal: DEAL, tick, grant: grant.encode() }
    }
}

/// A provider with one MiB of somebody's, and how a client asks it.
struct Stand {
    peer: Peer,
    id: ShardId,
    ledger: Arc<Played>,
    _listening: Link,
}

impl Stand {
    async fn begin(context: &Context, home: &Home) -> Self {
        let ledger = Played::new(1 << 30);
        *ledger.taken.lock().unwrap() = Some(Vec::new());
        Self::on(context, home, ledger).await
    }

    /// At a ledger that is there already.
    async fn on(context: &Context, home: &Home, ledger: Arc<Played>) -> Self {
        let (provider, _) = provider(context, home, ledger.clone()).await;
        let (id, body) = shard(1, 1 << 20);
        for deal in [DEAL, STRANGERS_DEAL] {
            provider.store().put(deal, id, [0; 16], body.clone()).await.unwrap();
        }
        let (listening, listener) = bind(PROVIDER).await;
        tokio::spawn(accept(listener, provider));
        let peer = Peer::at(listening.key(), vec![listening.address().unwrap()]);
        Self { peer, id, ledger, _listening: listening }
    }

    async fn ask(&self, client: &Link, request: Request) -> Answer {
        ask(client, &self.peer, request, bytes::Bytes::new()).await.expect("an answer").0
    }

    async fn get(&self, client: &Link, grant: &[u8]) -> Answer {
        self.get_of(DEAL, client, grant).await
    }

    async fn get_of(&self, deal: u64, client: &Link, grant: &[u8]) -> Answer {
        self.ask(client, Request::Get { deal, id: self.id, offset: 0, len: 0, grant: grant.to_vec() }).await
    }

    /// Tells a tick; what the provider has then.
    async fn pay(&self, client: &Link, tick: Request) -> wire::Tab {
        match self.ask(client, tick).await {
            Answer::Tab(told) => told,
            other => panic!("{other:?}"),
        }
    }

    /// Tells a tick that is not taken; why.
    async fn fail(&self, client: &Link, tick: Request) -> String {
        match self.ask(client, tick).await {
            Answer::Refused { reason: Reason::Unpaid, text } => text,
            other => panic!("{other:?}"),
        }
    }

    /// Reads MiBs, of which so many were given before, until it is refused; gives how many then.
    async fn drain(&self, client: &Link, grant: &[u8], before: u64) -> u64 {
        for given in before.. {
            match self.get(client, grant).await {
                Answer::Slice { .. } => assert!(given < 2 * u64::from(TICKS), "it gives without end"),
                Answer::Refused { reason: Reason::Unpaid, text } => {
                    assert!(text.contains(&format!("served {given} MiB")), "{text}");
                    return given;
                }
                other => panic!("{other:?}"),
            }
        }
        unreachable!("a refusal ends it")
    }
}

#[test]
fn who_pays_is_served_on_who_stops_has_had_the_credit_and_the_ledger_pays_each_tick_once() {
    let folder = Folder::new("paid");
    let home = Home::create(folder.0.join("provider")).unwrap();
    on_runtime(home.store(), |context| async move {
        let stand = Stand::begin(&context, &home).await;
        let (reader, _reader) = bind([11; 32]).await;
        let (thief, _thief) = bind([12; 32]).await;
        let paying = Paying::new(7, PRICE);
        let grant = paying.grant(reader.key());
        *stand.ledger.tab.lock().unwrap() = Some(paying.tab.clone());

        // On credit, and then no further; what is free stays so.
        let on_credit = ON_CREDIT;
        assert_eq!(stand.drain(&reader, &grant.encode(), 0).await, on_credit);
        let own = super::grant(reader.key(), Rights::READ);
        assert!(matches!(stand.get(&reader, &own).await, Answer::Slice { .. }));
        // A pass with its tab cut out, or of another reader, opens nothing.
        for (who, grant) in [(&reader, Grant { tab: None, ..grant }), (&thief, grant)] {
            let answer = stand.get(who, &grant.encode()).await;
            assert!(matches!(answer, Answer::Refused { reason: Reason::NotGranted, .. }), "{answer:?}");
        }

        // Ticks that pay for nothing: unknown, of no leaf of the tab, of another chain, by another reader.
        let opening = paying.opening.to_bytes();
        let (mut bent, cheap) = (opening.clone(), Paying::new(7, LEAST - 1));
        *bent.last_mut().unwrap() ^= 1;
        let false_value = paying.tick(1, &grant, opening.clone());
        let Request::Tick { tick, .. } = &false_value else { unreachable!() };
        let tick = wire::Tick { index: 2, ..tick.clone() };
        for (request, why) in [
            (paying.tick(1, &grant, vec![]), "not known here"),
            (paying.tick(1, &grant, bent), "do not commit"),
            (cheap.tick(1, &grant, cheap.opening.to_bytes()), "costs at least"),
            (Request::Tick { deal: DEAL, tick, grant: grant.encode() }, "not of this chain"),
            (paying.tick(80, &grant, opening.clone()), "reveal one between"),
        ] {
            let answer = stand.ask(&reader, request).await;
            let Answer::Refused { reason: Reason::Unpaid, text } = answer else { panic!("{why}: {answer:?}") };
            assert!(text.contains(why), "{text}");
        }
        for (who, grant) in [(&thief, grant), (&reader, Paying::new(8, PRICE).grant(reader.key()))] {
            let answer = stand.ask(who, paying.tick(1, &grant, opening.clone())).await;
            assert!(matches!(answer, Answer::Refused { reason: Reason::NotGranted, .. }), "{answer:?}");
        }
        assert_eq!(stand.drain(&reader, &grant.encode(), on_credit).await, on_credit);

        // Each tick is a MiB more, and one that is known none.
        let mut given = on_credit;
        for index in [1, 2, 2, 1, 3, 40, TICKS] {
            let answer = stand.ask(&reader, paying.tick(index, &grant, opening.clone())).await;
            let Answer::Tab(told) = answer else { panic!("{answer:?}") };
            assert_eq!((told.served_bytes, told.credit_bytes), (given * TICK_BYTES, CREDIT_BYTES));
            assert_eq!(told.value, paying.ticks.tick(told.taken).unwrap().value.0, "it shows what it has");
            given = stand.drain(&reader, &grant.encode(), given).await;
            assert_eq!(given, u64::from(told.taken) + on_credit);
        }
        assert_eq!(given, u64::from(TICKS) + on_credit, "its chain is at its end");

        // What it took is claimed to the wei, once.
        while stand.ledger.drawn().1 < TICKS {
            context.sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(stand.ledger.drawn(), (u128::from(TICKS) * PRICE, TICKS));
    });
}

#[test]
fn another_buckets_owner_and_a_custodian_use_up_nobodys_tab() {
    let folder = Folder::new("paid-apart");
    let home = Home::create(folder.0.join("provider")).unwrap();
    on_runtime(home.store(), |context| async move {
        let stand = Stand::begin(&context, &home).await;
        let (reader, _reader) = bind([13; 32]).await;
        let (thief, _thief) = bind([14; 32]).await;
        let paying = Paying::new(7, PRICE);
        let grant = paying.grant(reader.key());
        *stand.ledger.tab.lock().unwrap() = Some(paying.tab.clone());

        let tab = paying.tab.id;
        let strangers =
            Grant::sign_metered(&STRANGER, CHAIN_ID, strangers_bucket(), &thief.key(), tab, u64::MAX).unwrap();
        for _ in 0..ON_CREDIT {
            let answer = stand.get_of(STRANGERS_DEAL, &thief, &strangers.encode()).await;
            assert!(matches!(answer, Answer::Slice { .. }), "{answer:?}");
        }
        let answer = stand.get_of(STRANGERS_DEAL, &thief, &strangers.encode()).await;
        assert!(matches!(answer, Answer::Refused { reason: Reason::Unpaid, .. }), "{answer:?}");
        let Request::Tick { tick, .. } = paying.tick(1, &strangers, paying.opening.to_bytes()) else { unreachable!() };
        let tick = Request::Tick { deal: STRANGERS_DEAL, tick, grant: strangers.encode() };
        assert!(stand.fail(&thief, tick).await.contains("no such tab open for this bucket"));

        // Who restores what is lost reads, and names no tab.
        let custodians = Grant::sign_metered(&CUSTODIAN, CHAIN_ID, bucket(), &thief.key(), tab, u64::MAX).unwrap();
        let answer = stand.get(&thief, &custodians.encode()).await;
        assert!(matches!(answer, Answer::Refused { reason: Reason::NotGranted, .. }), "{answer:?}");
        let free = signed(&CUSTODIAN, thief.key(), Rights::READ);
        assert!(matches!(stand.get(&thief, &free).await, Answer::Slice { .. }));

        assert_eq!(stand.drain(&reader, &grant.encode(), 0).await, ON_CREDIT, "all of the credit is there");
        let told = stand.pay(&reader, paying.tick(1, &grant, paying.opening.to_bytes())).await;
        assert_eq!((told.taken, told.served_bytes), (1, ON_CREDIT * TICK_BYTES));
    });
}

#[test]
fn a_tick_pays_what_is_asked_here_or_on_the_ledger_whichever_is_less() {
    let folder = Folder::new("paid-price");
    let home = Home::create(folder.0.join("provider")).unwrap();
    on_runtime(home.store(), |context| async move {
        let stand = Stand::begin(&context, &home).await;
        let (reader, _reader) = bind([15; 32]).await;
        let tell = async |asked: u128, seed: u8, price: u128| {
            let paying = Paying::new(seed, price);
            *stand.ledger.price_read.lock().unwrap() = asked * 1024;
            *stand.ledger.tab.lock().unwrap() = Some(paying.tab.clone());
            let tick = paying.tick(1, &paying.grant(reader.key()), paying.opening.to_bytes());
            stand.ask(&reader, tick).await
        };
        let low = LEAST / 2;
        for (asked, seed, price) in [(low, 21, low), (low, 22, LEAST - 1), (2 * LEAST, 23, LEAST)] {
            let answer = tell(asked, seed, price).await;
            assert!(matches!(answer, Answer::Tab(wire::Tab { taken: 1, .. })), "{asked} {price}: {answer:?}");
        }
        for (asked, seed, price) in [(low, 24, low - 1), (LEAST, 25, LEAST - 1), (2 * LEAST, 26, LEAST - 1)] {
            let answer = tell(asked, seed, price).await;
            let Answer::Refused { reason: Reason::Unpaid, text } = answer else { panic!("{asked}: {answer:?}") };
            assert!(text.contains(&format!("at least {} wei", asked.min(LEAST))), "{text}");
        }
    });
}

#[test]
fn what_the_ledger_does_not_pay_costs_nothing_and_keeps_nothing_else_back() {
    let folder = Folder::new("paid-batch");
    let home = Home::create(folder.0.join("provider")).unwrap();
    on_runtime(home.store(), |context| async move {
        let stand = Stand::begin(&context, &home).await;
        let (reader, _reader) = bind([16; 32]).await;
        let paying = Paying::new(7, PRICE);
        let grant = paying.grant(reader.key());
        *stand.ledger.tab.lock().unwrap() = Some(paying.tab.clone());
        // The one that is not paid comes first.
        *stand.ledger.unpaid.lock().unwrap() = Some(1);
        stand.pay(&reader, paying.tick(60, &grant, paying.opening.to_bytes())).await;
        let (ticks, opening) = &paying.beside;
        let value = ticks.tick(50).unwrap().value.0;
        let tick = wire::Tick { tab: paying.tab.id.0, leaf: 2, index: 50, value, opening: opening.to_bytes() };
        stand.pay(&reader, Request::Tick { deal: DEAL, tick, grant: grant.encode() }).await;
        while stand.ledger.drawn().1 < 50 {
            context.sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(stand.ledger.drawn(), (50 * PRICE, 50));
        *stand.ledger.unpaid.lock().unwrap() = None;
        while stand.ledger.drawn().1 < 110 {
            context.sleep(Duration::from_millis(100)).await;
        }
        assert_eq!((stand.ledger.drawn(), stand.ledger.wasted()), ((110 * PRICE, 110), 0));
    });
}

#[test]
fn a_tab_that_ends_by_the_ledgers_time_is_claimed_from_and_then_forgotten() {
    let folder = Folder::new("paid-end");
    let home = Home::create(folder.0.join("provider")).unwrap();
    on_runtime(home.store(), |context| async move {
        let stand = Stand::begin(&context, &home).await;
        let (reader, _reader) = bind([17; 32]).await;
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        // More than a claim's fee, and less than fifty.
        let price = 1_000_000;
        *stand.ledger.price_read.lock().unwrap() = price * 1024;
        let mut paying = Paying::new(7, price);
        let grant = paying.grant(reader.key());
        paying.tab.untilMs = now_ms;
        *stand.ledger.tab.lock().unwrap() = Some(paying.tab.clone());
        let why = stand.fail(&reader, paying.tick(1, &grant, paying.opening.to_bytes())).await;
        assert!(why.contains("takes no more ticks"), "{why}");

        // Days from now; windows are a second.
        paying.tab.untilMs = now_ms + (1 << 30);
        *stand.ledger.tab.lock().unwrap() = Some(paying.tab.clone());
        stand.pay(&reader, paying.tick(1, &grant, paying.opening.to_bytes())).await;
        stand.ledger.at(paying.tab.untilMs - 1000);
        while stand.ledger.drawn().1 < 1 {
            context.sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(stand.ledger.drawn(), (price, 1));
        // By this machine's clock there are days left.
        stand.ledger.at(paying.tab.untilMs);
        stand.pay(&reader, paying.tick(2, &grant, vec![])).await;
        // Until its provider has forgotten the tab it knows the leaf.
        let why = loop {
            match stand.ask(&reader, paying.tick(2, &grant, vec![])).await {
                Answer::Tab(_) => context.sleep(Duration::from_millis(100)).await,
                Answer::Refused { reason: Reason::Unpaid, text } => break text,
                other => panic!("{other:?}"),
            }
        };
        assert!(why.contains("not known here"), "{why}");
        assert_eq!(stand.ledger.drawn(), (2 * price, 2));
    });
}

#[test]
fn books_return_and_those_that_are_lost_begin_where_the_claims_are() {
    let folder = Folder::new("paid-again");
    let home = Home::create(folder.0.join("provider")).unwrap();
    let ledger = Played::new(1 << 30);
    *ledger.taken.lock().unwrap() = Some(Vec::new());
    let paying = Paying::new(7, PRICE);
    *ledger.tab.lock().unwrap() = Some(paying.tab.clone());
    on_runtime(home.store(), |context| {
        let (ledger, home, paying) = (ledger.clone(), &home, &paying);
        async move {
            let stand = Stand::on(&context, home, ledger).await;
            let (reader, _reader) = bind([18; 32]).await;
            let grant = paying.grant(reader.key());
            assert_eq!(stand.drain(&reader, &grant.encode(), 0).await, ON_CREDIT);
            stand.pay(&reader, paying.tick(20, &grant, paying.opening.to_bytes())).await;
            while stand.ledger.drawn().1 < 20 {
                context.sleep(Duration::from_millis(100)).await;
            }
        }
    });
    on_runtime(home.store(), |context| {
        let (ledger, home, paying) = (ledger.clone(), &home, &paying);
        async move {
            let stand = Stand::on(&context, home, ledger).await;
            let (reader, _reader) = bind([18; 32]).await;
            // Without the leaf: it is on disk.
            let told = stand.pay(&reader, paying.tick(21, &paying.grant(reader.key()), vec![])).await;
            assert_eq!((told.taken, told.served_bytes), (21, ON_CREDIT * TICK_BYTES));
        }
    });
    let home = Home::create(folder.0.join("anew")).unwrap();
    on_runtime(home.store(), |context| {
        let (ledger, home, paying) = (ledger.clone(), &home, &paying);
        async move {
            let claimed = ledger.drawn().1;
            assert!([20, 21].contains(&claimed), "{claimed}");
            let stand = Stand::on(&context, home, ledger).await;
            let (reader, _reader) = bind([18; 32]).await;
            let grant = paying.grant(reader.key());
            let told = stand.pay(&reader, paying.tick(5, &grant, paying.opening.to_bytes())).await;
            assert_eq!((told.taken, told.served_bytes), (claimed, u64::from(claimed) * TICK_BYTES));
            assert_eq!(told.value, paying.ticks.tick(claimed).unwrap().value.0);
            stand.pay(&reader, paying.tick(60, &grant, vec![])).await;
            while stand.ledger.drawn().1 < 60 {
                context.sleep(Duration::from_millis(100)).await;
            }
            assert_eq!((stand.ledger.drawn(), stand.ledger.wasted()), ((60 * PRICE, 60), 0));
        }
    });
}

#[test]
fn claims_of_others_are_not_asked_for_and_a_range_with_too_many_is_halved() {
    let ledger = Played::new(1 << 30);
    let node = B256::from(Signer::new(&PROVIDER).node().0);
    let claimed = |provider: B256, index: u32| ITabs::Claimed {
        payer: Default::default(),
        provider,
        tab: B256::repeat_byte(3),
        operator: Default::default(),
        leaf: 0,
        index,
        ticks: 1,
        amount: U256::from(7),
    };
    for index in 1..=9 {
        for provider in [node, B256::repeat_byte(1), B256::repeat_byte(2)] {
            ledger.tell(TABS, claimed(provider, index).encode_log_data());
        }
    }
    for logs_max in [9, 2] {
        ledger.logs_max.store(logs_max, Ordering::Relaxed);
        let sum = futures::executor::block_on(earnings(&*ledger, node, 1, 28)).unwrap();
        assert_eq!((sum.reads.len(), sum.read), (9, U256::from(63)), "at most {logs_max} at once");
    }
}
