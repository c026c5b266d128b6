//! Have deals fill up, and see that data stops where the index goes on.

use super::{care, coder, plain, put, run, small};
use crate::fleet::{Fleet, Mode};
use bytes::Bytes;
use commonware_runtime::{Clock as _, deterministic::Context};
use futures::stream;
use hodei_storage::engine::{Engine, Fill, PutError, PutRequest, Wait};
use std::{convert::Infallible, sync::Arc};

const MIB: u64 = 1 << 20;

async fn put_as(fill: Fill, fleet: &Fleet, engine: &Engine<Context, Fleet>, data: &Bytes) -> Result<(), PutError> {
    let (shape, wait, offers) = (small(), Wait::Quorum, Arc::new(()));
    let (coder, roster) = (coder(&shape), fleet.roster());
    let request = PutRequest { shape, coder, roster, upload: [9; 16], wait, offers, fill, care: care() };
    let pieces = stream::iter([Ok::<_, Infallible>(data.clone())]);
    engine.put(request, pieces, |_| {}).await.map(drop)
}

#[test]
fn a_put_into_full_deals_is_refused_for_good_and_leaves_their_providers_in_good_standing() {
    run(51, |context, fleet, engine| async move {
        // Two of six: the others take two shards each where the caps allow it.
        (0..2).for_each(|host| fleet.set(host, Mode::DealFull));
        put(&fleet, &engine, &plain(1_000_000), Wait::Quorum).await.unwrap();
        (2..4).for_each(|host| fleet.set(host, Mode::DealFull));
        for _ in 0..2 {
            let error = put(&fleet, &engine, &plain(1_000_000), Wait::Quorum).await.unwrap_err();
            assert!(matches!(error, PutError::Full { full: 4.., deals: 6, .. }) && !error.is_temporary(), "{error}");
        }
        let rests = |host| engine.peers().rests(&fleet.node(host), context.current());
        assert!(!(0..6).any(rests), "a deal that is full says nothing of other deals");
        // Who is away may be back: with them there were room enough.
        (0..4).for_each(|host| fleet.set(host, Mode::Down));
        let error = put(&fleet, &engine, &plain(1_000_000), Wait::Quorum).await.unwrap_err();
        assert!(matches!(error, PutError::Acks { .. }) && error.is_temporary(), "{error}");
    });
}

#[test]
fn data_leaves_a_part_of_each_deal_to_the_index() {
    run(52, |_, fleet, engine| async move {
        // An eighth of each is kept: 1 MiB of 8.
        (1..=6).for_each(|deal| engine.rooms().tell(deal, 8 * MIB, (0, 0)));
        let mut puts = 0;
        // Other bytes each time: the very same are nothing new to who has them.
        let data = |count: usize| plain((3 << 20) + count);
        let error = loop {
            match put_as(Fill::Data, &fleet, &engine, &data(puts)).await {
                Ok(()) => puts += 1,
                Err(error) => break error,
            }
            assert!(puts < 20, "it never fills");
        };
        assert!(matches!(error, PutError::Full { full: 4.., deals: 6, .. }), "{error}");
        assert!(puts >= 5 && error.to_string().contains("1048576 are the index's"), "{puts}: {error}");
        put_as(Fill::Index, &fleet, &engine, &plain(100_000)).await.unwrap();
        assert!(put_as(Fill::Data, &fleet, &engine, &data(puts)).await.is_err());
        // Its owner made it larger.
        (1..=6).for_each(|deal| engine.rooms().tell(deal, 80 * MIB, (0, 0)));
        put_as(Fill::Data, &fleet, &engine, &data(puts)).await.unwrap();
    });
}
