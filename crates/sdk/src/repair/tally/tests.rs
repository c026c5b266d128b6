//! Lay out a bucket by hand, take shards away, and see what the survey makes of it.

use super::{
    super::seat::{Rest, tests::seat},
    *,
};
use hodei_storage::{
    index::{Customer, Entry, Home},
    manifest::{Holder, Stripe},
    seal::{Algorithm, WRAPPED_BYTES},
};
use hodei_types::{code::CodeId, transport::NodeKey};

/// Six deals, a shard of each stripe in each; the pages in the first four.
fn pages(object: u8, stripes: u8) -> Vec<(PageRef, Page)> {
    let holder = |at: u8| Holder { node: NodeKey([at; 32]), deal: at.into() };
    let stripe = |at| Stripe {
        shard_bytes: 4096,
        ids: (0..6).map(|shard| ShardId([object, at, shard].repeat(11)[..32].try_into().unwrap())).collect(),
        moved: Vec::new(),
    };
    let page = Page {
        code: CodeId::Rs8,
        k: 3,
        n: 6,
        holders: (0..6).map(holder).collect(),
        stripes: (0..stripes).map(stripe).collect(),
        pads: None,
    };
    let place = PageRef {
        id: ShardId([object; 32]),
        bytes: 4096,
        stripes: stripes.into(),
        holders: (0..4).map(holder).collect(),
    };
    vec![(place, page)]
}

fn part(object: u8, stripes: u8) -> Part {
    Part {
        number: 1,
        object: [object; 16],
        wrapped: [0; WRAPPED_BYTES],
        algorithm: Algorithm::Aes256Gcm,
        commitment: [0; 32],
        size_bytes: 1000,
        content: [0; 32],
        shape: Shape::new(3, 6, 1).unwrap(),
        home: Home::Own(pages(object, stripes).remove(0).0),
    }
}

fn entry(object: u8, stripes: u8) -> Entry {
    Entry { parts: vec![part(object, stripes)], ..Entry::default() }
}

fn run() -> Run {
    let mut run = Run::default();
    run.set("a", vec![entry(1, 2), entry(2, 1)]);
    let customer = Some(Customer { md5: [0; 16], salt: [0; 16] });
    run.set("b", vec![Entry { customer, ..entry(2, 1) }]);
    run.set("c", vec![Entry { customer, ..entry(3, 1) }]);
    run.set("d", vec![entry(1, 2)]);
    run
}

/// What is found where these deals have all, but not those of `without`.
fn survey(seats: Vec<Seat>, all: bool, without: impl Fn(u64, u8, u8) -> bool) -> Survey {
    let run = run();
    let mut voices = Voices::of(&seats);
    let mut tally = Tally::new(Shape::new(3, 6, 1).unwrap(), &Ask { all, ..Ask::default() }, seats, Arc::default());
    let (mut todo, total) = objects(&run, 0);
    assert_eq!((todo.len(), total), (3, 3000));
    let (plots, last) = wave(&run, None, &mut todo);
    assert!(todo.is_empty() && last.is_none() && plots.len() == 3, "each once");
    for plot in plots {
        let object = plot.part.object[0];
        let pages = pages(object, plot.part.page().stripes as u8);
        let (place, page) = &pages[0];
        let shards = (0..page.stripes.len() as u8).flat_map(|stripe| (0..6u8).map(move |shard| (stripe, shard)));
        let has = |deal: u64, stripe, shard: u8| voices.is_asked(deal) && !without(deal, stripe, shard);
        let listed = shards.filter(|(stripe, shard)| has((*shard).into(), *stripe, *shard));
        let listed = listed.map(|(stripe, shard)| (shard.into(), page.stripes[stripe as usize].ids[shard as usize]));
        let copies = place.copies().filter(|(deal, _)| voices.is_asked(*deal));
        voices.there = listed.chain(copies).collect();
        tally.part(&plot, &pages, &voices);
    }
    tally.end(&run)
}

fn seats(states: [State; 6]) -> Vec<Seat> {
    (0u8..).zip(states).map(|(node, state)| seat(node, state, 1 << 20, 1)).collect()
}

#[test]
fn one_lost_shard_is_found_where_it_is() {
    use State::Answers;
    let well = survey(seats([Answers; 6]), false, |_, _, _| false);
    assert_eq!((well.parts, well.bytes, well.stripes.whole, well.pages.whole), (3, 3000, 4, 3));
    assert!(well.is_well() && well.kept_parts == 0);
    let found = survey(seats([Answers; 6]), false, |deal, stripe, _| deal == 5 && stripe == 1);
    assert_eq!((found.stripes.whole, found.stripes.lacking), (3, BTreeMap::from([(2, 1)])));
    assert_eq!((found.due, found.due_parts, found.due_bytes), (BTreeSet::from([[1; 16]]), 1, 1000));
    assert_eq!(found.seats.iter().map(|seat| seat.named - seat.there).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 1]);
}

#[test]
fn who_may_return_is_waited_for_and_who_does_not_is_not() {
    use State::{Answers, Away, Closed, Doubted, GivenUp, Leaving, Missing};
    let found = |states| survey(seats(states), false, |_, _, _| false);
    let away = found([Away, Answers, Answers, Answers, Answers, Answers]);
    assert_eq!((away.stripes.lacking.clone(), away.is_well()), (BTreeMap::from([(2, 4)]), true));
    for gone in [Missing, GivenUp, Closed, Doubted, Leaving] {
        let found = found([gone, Answers, Answers, Answers, Answers, Answers]);
        assert_eq!((found.stripes.lacking.clone(), found.due_parts), (BTreeMap::from([(2, 4)]), 2), "{gone:?}");
        assert_eq!(found.kept_parts, 1, "the one that only a customer's key opens");
    }
    let urgent = found([Away, Away, Away, Answers, Answers, Answers]);
    assert_eq!((urgent.stripes.lacking.clone(), urgent.due_parts), (BTreeMap::from([(0, 4)]), 2));
}

#[test]
fn what_is_not_given_now_comes_back_and_what_is_given_counts_though_nothing_more_is_taken() {
    use State::{Answers, GivenUp};
    let has_all = |_, _, _| false;
    let resting = |gives, states| {
        let mut seats = seats(states);
        seats[0].rest = Some(Rest { until_ms: None, gives });
        survey(seats, false, has_all)
    };
    let well = resting(true, [Answers; 6]);
    assert_eq!((well.stripes.whole, well.is_well()), (4, true));
    let shut = resting(false, [Answers; 6]);
    assert_eq!((shut.stripes.lacking.clone(), shut.is_well()), (BTreeMap::from([(2, 4)]), true));
    assert_eq!((shut.seats[0].there, shut.lost()), (0, 0));
    // Nothing more may go but with it: what it has is put elsewhere; and where too little is left it may bring it back.
    let urgent = resting(false, [Answers, GivenUp, GivenUp, Answers, Answers, Answers]);
    assert_eq!((urgent.stripes.lacking.clone(), urgent.due_parts), (BTreeMap::from([(0, 4)]), 2));
    let few = resting(false, [Answers, GivenUp, GivenUp, GivenUp, Answers, Answers]);
    assert!(few.stripes.lost == 4 && few.unreadable.iter().all(|one| one.may_return), "{few:?}");
}

#[test]
fn who_was_silent_once_is_asked_no_more() {
    let mut seats = seats([State::Answers; 6]);
    seats[2].rest = Some(Rest { until_ms: None, gives: false });
    let mut voices = Voices::of(&seats);
    assert!(voices.is_asked(2) && voices.shut.contains(&2));
    voices.fall_silent(&mut seats, &[2, 99]);
    assert!(!voices.is_asked(2) && voices.is_asked(3) && voices.shut.is_empty());
    assert_eq!((seats[2].state, seats[2].answers), (State::Away, false));
}

#[test]
fn what_cannot_be_read_is_named_once_by_each_key() {
    use State::{Answers, Away, Doubted, GivenUp};
    let found = survey(seats([GivenUp, GivenUp, Answers, Away, Answers, Answers]), false, |deal, stripe, _| {
        deal == 5 && stripe == 1
    });
    assert_eq!((found.stripes.lost, found.stripes.lacking.clone()), (1, BTreeMap::from([(0, 3)])));
    let named = |key: &str| Unreadable { key: key.into(), stripes: 1, may_return: true };
    assert_eq!((found.unreadable, found.unreadable_objects), (vec![named("a"), named("d")], 2));
    assert_eq!(found.due, BTreeSet::from([[2; 16]]), "the rest is put back");
    // Who proves nothing may have what it takes.
    let doubted = survey(seats([GivenUp, GivenUp, GivenUp, Doubted, Answers, Answers]), false, |_, _, _| false);
    assert_eq!((doubted.stripes.lost, doubted.due_parts), (0, 2));
}

#[test]
fn no_deal_ends_while_its_provider_may_have_what_is_needed() {
    use State::{Answers, Closed, GivenUp};
    let has_all = |_, _, _| false;
    let ends = |found: &Survey| found.seats.iter().filter(|seat| seat.is_gone() && found.may_end(seat)).count();
    let lost = survey(seats([GivenUp, GivenUp, GivenUp, GivenUp, Answers, Answers]), false, has_all);
    assert_eq!((lost.lost(), ends(&lost)), (4, 0));
    // What only a customer's key opens is not put back: who is closed may have it still, who is told gone has not.
    let kept = survey(seats([GivenUp, Closed, Answers, Answers, Answers, Answers]), false, has_all);
    assert_eq!((kept.kept_parts, ends(&kept)), (1, 1));
    let mut answering = seats([GivenUp, Answers, Answers, Answers, Answers, Answers]);
    answering[0].answers = true;
    let answering = survey(answering, false, has_all);
    assert_eq!((answering.kept_parts, ends(&answering)), (1, 0));
}

#[test]
fn a_shard_counts_with_who_has_it() {
    use State::{Answers, Closed, Leaving};
    let (id, mut overlay) = (ShardId([1; 32]), Overlay::default());
    let mut voices = Voices::of(&seats([Closed, Leaving, Answers, Answers, Answers, Answers]));
    (1..3).for_each(|deal| overlay.add(id, deal));
    // Nobody has it, then more and more do: who is named and closed, who leaves, and who stays.
    assert_eq!(voices.deal_of(&overlay, Some(0), id), Some(0));
    // Who is closed has it as well: what lies with who leaves is moved all the same.
    for (has, counts) in [(0, 0), (1, 1), (2, 2)] {
        voices.there.insert((has, id));
        assert_eq!(voices.deal_of(&overlay, Some(0), id), Some(counts));
    }
    assert_eq!(voices.deal_of(&Overlay::default(), None, id), None);
    // What a custodian brought to who leaves now is there, to be moved, and not lost.
    voices.there = BTreeSet::from([(1, id)]);
    let mut count = Count::default();
    assert!(voices.count(&mut count, 1, id));
    assert_eq!((count.spare, count.leaving), (1, 1));
}

#[test]
fn an_old_copy_with_who_rests_counts_for_nothing_beside_one_that_is_given() {
    use State::{Answers, Closed, Leaving};
    let id = ShardId([1; 32]);
    let mut overlay = Overlay::default();
    overlay.add(id, 1);
    for (state, expected) in [
        (Answers, Count { there: 1, ..Count::default() }),
        (Leaving, Count { spare: 1, leaving: 1, ..Count::default() }),
        (Closed, Count { spare: 1, ..Count::default() }),
    ] {
        let mut seats = seats([Answers, state, Answers, Answers, Answers, Answers]);
        seats[0].rest = Some(Rest { until_ms: None, gives: false });
        let mut voices = Voices::of(&seats);
        voices.there = BTreeSet::from([(0, id), (1, id)]);
        // Whichever of the two the page names.
        let mut other = Overlay::default();
        other.add(id, 0);
        for (overlay, named) in [(&overlay, 0), (&other, 1)] {
            let (deal, mut count) = (voices.deal_of(overlay, Some(named), id), Count::default());
            assert_eq!(deal, Some(1), "{state:?}");
            voices.count(&mut count, 1, id);
            assert_eq!(count, expected, "{state:?}");
        }
        voices.there.remove(&(1, id));
        assert_eq!(voices.deal_of(&overlay, Some(0), id), Some(0), "there it comes back");
    }
}

/// A bucket of six, of which one leaves and has a shard that another has an old copy of; these give nothing now.
fn beside_old_copies(shut: &[usize]) -> Survey {
    use State::{Answers, Leaving};
    let mut seats = seats([Answers, Leaving, Answers, Answers, Answers, Answers]);
    for at in shut {
        seats[*at].rest = Some(Rest { until_ms: None, gives: false });
    }
    let mut overlay = Overlay::default();
    let plot = Plot { part: part(1, 1), is_movable: true, is_index: false };
    let mut pages = pages(1, 1);
    // Copies of the page are enough without both.
    pages[0].0.holders = pages[0].1.holders[2..].to_vec();
    let ids = pages[0].1.stripes[0].ids.clone();
    overlay.add(ids[0], 1);
    let mut voices = Voices::of(&seats);
    let listed = (0u64..).zip(&ids).filter(|(deal, _)| *deal != 1).map(|(deal, id)| (deal, *id));
    voices.there = listed.chain([(1, ids[0]), (2, ids[1])]).chain(pages[0].0.copies()).collect();
    overlay.add(ids[1], 2);
    let shape = Shape::new(3, 6, 1).unwrap();
    let mut tally = Tally::new(shape, &Ask::default(), seats, Arc::new(overlay));
    tally.part(&plot, &pages, &voices);
    tally.end(&Run::default())
}

#[test]
fn no_deal_with_who_leaves_ends_while_only_who_rests_has_the_same() {
    let ends = |found: &Survey| found.may_end(&found.seats[1]);
    let found = beside_old_copies(&[0]);
    assert_eq!((found.due_parts, found.seats[1].there, found.seats[0].named), (1, 1, 0), "it is moved");
    assert!(!ends(&found));
    // It gives nothing now either: it is waited for.
    let found = beside_old_copies(&[0, 1]);
    assert_eq!((found.is_well(), ends(&found)), (true, false));
    let found = beside_old_copies(&[1]);
    assert_eq!((found.is_well(), ends(&found)), (true, true), "who stays gives it");
    assert!(ends(&beside_old_copies(&[])));
}

#[test]
fn what_nobody_has_counts_with_who_declines_it_or_else_is_expected_back() {
    use State::{Answers, Away, Closed, Missing};
    let (id, mut overlay) = (ShardId([1; 32]), Overlay::default());
    let mut voices = Voices::of(&seats([Closed, Missing, Away, Answers, Answers, Answers]));
    let mut counts = |deal| {
        overlay.add(id, deal);
        voices.deal_of(&overlay, Some(0), id)
    };
    assert_eq!([4, 1, 2, 3].map(&mut counts), [Some(0), Some(1), Some(2), Some(2)]);
    voices.declined.insert((3, id));
    assert_eq!(voices.deal_of(&overlay, Some(0), id), Some(3));
    let mut count = Count::default();
    assert!(!voices.count(&mut count, 3, id));
    assert_eq!(count.declined, 1);
}

#[test]
fn what_is_declined_is_told_of_whoever_was_to_have_it() {
    let seats = seats([State::Answers; 6]);
    let mut tally = Tally::new(Shape::new(3, 6, 1).unwrap(), &Ask::default(), seats, Arc::default());
    tally.decline(&BTreeSet::from([(2, ShardId([1; 32])), (2, ShardId([2; 32]))]));
    tally.decline(&BTreeSet::from([(2, ShardId([3; 32])), (5, ShardId([3; 32]))]));
    let declined: Vec<u64> = tally.end(&Run::default()).seats.iter().map(|seat| seat.declined).collect();
    assert_eq!(declined, [0, 0, 3, 0, 0, 1]);
}

#[test]
fn no_more_is_declined_of_what_is_named_than_is_named() {
    let (shape, id) = (Shape::new(3, 6, 1).unwrap(), ShardId([1; 32]));
    let seats = seats([State::Answers; 6]);
    let mut voices = Voices::of(&seats);
    let mut tally = Tally::new(shape, &Ask::default(), seats, Arc::default());
    voices.declined = BTreeSet::from([(0, id), (3, id), (0, ShardId([2; 32]))]);
    tally.decline(&voices.declined);
    // The index names it with the first two alone.
    tally.copies(&voices, id, &[0, 1], Bar::index(&shape, false));
    let told = tally.end(&Run::default()).seats;
    let told: Vec<_> = told.iter().map(|seat| (seat.named, seat.declined, seat.named_declined)).collect();
    assert_eq!(told, [(1, 2, 1), (1, 0, 0), (0, 0, 0), (0, 1, 0), (0, 0, 0), (0, 0, 0)]);
}

#[test]
fn copies_that_a_custodian_brought_elsewhere_are_as_good_as_those_that_are_named() {
    use State::{Answers, Leaving, Missing};
    let id = ShardId([9; 32]);
    // Four are named, the first of them with who goes; others have as many besides as this.
    let fate = |gone, besides: &[u64]| {
        let states = seats([gone, Answers, Answers, Answers, Answers, Answers]);
        let mut voices = Voices::of(&states);
        let has = [1, 2, 3].iter().chain((gone == Leaving).then_some(&0)).chain(besides);
        voices.there = has.map(|deal| (*deal, id)).collect();
        let shape = Shape::new(3, 6, 1).unwrap();
        let mut tally = Tally::new(shape, &Ask::default(), states, Arc::default());
        tally.copies(&voices, id, &[0, 1, 2, 3], Bar::data(&shape, false))
    };
    for gone in [Leaving, Missing] {
        assert_eq!([&[][..], &[4]].map(|besides| fate(gone, besides)), [Fate::Due, Fate::Enough], "{gone:?}");
    }
}
