//! Carry a chain in a file, and replay it where there was none.

use commonware_runtime::{Clock as _, Supervisor as _, deterministic};
use futures::future::BoxFuture;
use hodei_ledger::{
    history::HEAD_BYTES,
    import::{ImportError, import},
    read::Reader,
};
use hodei_sdk::history::export;
use hodei_sim::{Life, Scenario, Transfers, Votes, allocations, lan};
use hodei_types::{chain::Chain, network::NetworkKey};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);

/// Everybody sends; the first carries its chain over after a while.
#[derive(Clone)]
struct Carrying {
    traffic: Transfers,
    refused: Arc<Mutex<usize>>,
}

impl Life for Carrying {
    fn live(&self, context: deterministic::Context, index: usize, reader: Reader) -> BoxFuture<'static, ()> {
        let this = self.clone();
        Box::pin(async move {
            if index == 0 {
                context.sleep(SECOND * 30).await;
                this.carry(&context, reader).await;
                std::future::pending().await
            } else {
                this.traffic.live(context, index, reader).await;
            }
        })
    }
}

impl Carrying {
    async fn carry(&self, context: &deterministic::Context, reader: Reader) {
        let genesis = reader.genesis().clone();
        let key = NetworkKey { genesis: genesis.hash(), group: genesis.group_key() };
        let head = reader.head().await.unwrap().height;
        let mut file = Vec::new();
        let last = export(&reader, &key, 1, head, &mut file).await.unwrap();
        assert!(last >= head && head > 20, "blocks to {last} of {head}");
        let into = |name: &'static str| {
            let (context, genesis) = (context.child("import"), genesis.clone());
            move |bytes: Vec<u8>| async move {
                import(context, genesis, &format!("{name}-a"), &format!("{name}-b"), &mut bytes.as_slice()).await
            }
        };
        let imported = into("whole")(file.clone()).await.unwrap();
        let certificate = reader.certificate(last).await.unwrap();
        let header = &certificate.headers[0];
        assert_eq!(imported.height, last);
        assert!(header.windows(32).any(|bytes| bytes == imported.state_root.as_slice()), "another state root");

        let mut cut = file.clone();
        cut.truncate(file.len() - 5);
        let error = into("cut")(cut).await.unwrap_err().to_string();
        assert!(error.contains(&format!("after block {last}")), "{error}");
        let names = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "fa", "fb", "fc", "fd", "fe", "ff"];
        for (part, name) in names.into_iter().enumerate() {
            let at = HEAD_BYTES + (file.len() - HEAD_BYTES - 6) * part / names.len() + part;
            let mut bent = file.clone();
            bent[at] ^= 1 << (at % 8);
            let error = into(name)(bent).await.unwrap_err();
            assert!(matches!(error, ImportError::History(_)), "byte {at}: {error}");
            assert!(error.to_string().contains("block "), "byte {at}: {error}");
            *self.refused.lock().unwrap() += 1;
        }
        let error = into("whole")(file).await.unwrap_err();
        assert!(matches!(error, ImportError::NotEmpty(height) if height == last), "{error}");
    }
}

#[test]
fn an_exported_chain_replays_to_the_same_state_and_a_flipped_bit_names_its_block() {
    let life = Carrying { traffic: Transfers { interval: SECOND }, refused: Arc::default() };
    let refused = life.refused.clone();
    Scenario::new(Votes::Threshold, 4, lan(), 40, life).with_allocations(allocations(4)).run(0).unwrap();
    assert_eq!(*refused.lock().unwrap(), 16, "the carrying ended");
}
