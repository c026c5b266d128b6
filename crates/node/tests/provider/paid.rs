//! Show that a reader who pays is served on, one who does not only on credit, and that the ledger pays each tick once.

use super::*;
use hodei_node::provider::tabs::CREDIT_BYTES;
use hodei_types::{
    abi::ITabs,
    tab::{Chain as Ticks, GWEI, Leaf, Opening, TICK_BYTES, Tree},
};

/// What a tick costs at a provider that asks for as much as by default, and a price that is no whole gwei.
const LEAST: u128 = 976_562_500_000;
const PRICE: u128 = LEAST + 3 * GWEI + 1;
const TICKS: u32 = 90;

/// A tab as its payer has it, of one leaf for the provider and one for somebody else.
struct Paying {
    ticks: Ticks,
    opening: Opening,
    tab: ITabs::Tab,
}

impl Paying {
    fn new(seed: u8, price: u128) -> Self {
        let (id, node) = (B256::repeat_byte(seed), B256::from(Signer::new(&PROVIDER).node().0));
        let ticks = Ticks::prepare(&[seed; 32], id, node, 1, TICKS).unwrap();
        let leaf = Leaf { provider: node, anchor: ticks.anchor(), ticks: TICKS, price };
        let other = Leaf { provider: B256::repeat_byte(1), ..leaf };
        let tree = Tree::build(vec![other, leaf]).unwrap();
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
        Self { ticks, opening: tree.opening(1).unwrap(), tab }
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
        let (provider, _) = provider(context, home, ledger.clone()).await;
        let (id, body) = shard(1, 1 << 20);
        provider.store().put(DEAL, id, [0; 16], body).await.unwrap();
        let (listening, listener) = bind(PROVIDER).await;
        tokio::spawn(accept(listener, provider));
        let peer = Peer::at(listening.key(), vec![listening.address().unwrap()]);
        Self { peer, id, ledger, _listening: listening }
    }

    async fn ask(&self, client: &Link, request: Request) -> Answer {
        ask(client, &self.peer, request, bytes::Bytes::new()).await.expect("an answer").0
    }

    async fn get(&self, client: &Link, grant: &[u8]) -> Answer {
        self.ask(client, Request::Get { deal: DEAL, id: self.id, offset: 0, len: 0, grant: grant.to_vec() }).await
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
        let on_credit = CREDIT_BYTES / TICK_BYTES + 1;
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
