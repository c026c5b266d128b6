//! Follow an event from a member's log to a receipt that the network key alone proves.

use commonware_runtime::{Clock as _, Supervisor as _, deterministic};
use futures::future::BoxFuture;
use hodei_audit::{Config, Log, Signer};
use hodei_ledger::{account::Account, read::Reader};
use hodei_sdk::{
    receipt::{anchor, assemble},
    verify::{Verified, verify},
};
use hodei_sim::{Life, Scenario, Votes, allocations, each, lan, secret, seeds};
use hodei_types::{
    chain::Chain,
    event::{Actor, Fields, Kind},
    network::NetworkKey,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);
/// Events proven in a run.
const EVENTS: usize = 5;

/// The first member keeps a log, and proves each event once it is anchored.
#[derive(Clone, Default)]
struct Keeping {
    proven: Arc<Mutex<Vec<Verified>>>,
}

impl Life for Keeping {
    fn live(&self, context: deterministic::Context, index: usize, reader: Reader) -> BoxFuture<'static, ()> {
        let this = self.clone();
        Box::pin(async move {
            if index == 0 {
                this.keep(&context, reader).await;
            }
            std::future::pending().await
        })
    }
}

impl Keeping {
    async fn keep(&self, context: &deterministic::Context, reader: Reader) {
        let genesis = reader.genesis();
        let key = NetworkKey { genesis: genesis.hash(), group: genesis.group_key() };
        let config = Config::new("log", key.genesis, [5; 32]);
        let log = Log::open(context.child("log"), config, Signer::new(&[6; 32])).await.unwrap();
        let chain: Arc<dyn Chain> = Arc::new(reader);
        let account = Account::new(chain.clone(), &secret(0)).unwrap();
        while self.proven.lock().unwrap().len() < EVENTS {
            context.sleep(SECOND).await;
            let actor = Actor::Account(account.address());
            let sequence = log.record(7, Kind::Transfer, actor, |_| Fields::new()).await.unwrap();
            // Refused while nothing is readable yet: what was signed is posted with the next event's.
            let Ok(Some((_, height))) = anchor(&account, &log).await else { continue };
            let receipt = assemble(&*chain, &log, key.genesis, sequence).await.unwrap().encode();
            let verified = verify(&receipt, &key).unwrap();
            assert_eq!((verified.event.sequence, verified.height), (sequence, height));
            assert!(receipt.len() <= 3000 + 650 * (verified.certified - height) as usize);
            let mut bent = receipt.clone();
            let at = bent.len() * (sequence as usize % 10) / 10;
            bent[at] ^= 1;
            assert!(verify(&bent, &key).is_err(), "byte {at}");
            self.proven.lock().unwrap().push(verified);
        }
    }
}

#[test]
fn an_event_is_proven_by_the_network_key() {
    each(seeds(1), |seed| {
        let life = Keeping::default();
        let four = Scenario::new(Votes::Threshold, 4, lan(), 40, life.clone());
        four.with_allocations(allocations(4)).run(seed).unwrap();
        let proven = life.proven.lock().unwrap();
        assert_eq!(proven.len(), EVENTS, "events proven in 40 s");
        assert!(proven.windows(2).all(|pair| pair[0].height < pair[1].height));
    });
}
