//! Say what was found, what is assumed, what it costs, and what was done.

use crate::{
    again,
    bucket::odds,
    out::{bytes, table},
    status::short,
    time,
};
use hodei_sdk::{
    recode::Recoded,
    repair::{Ended, Margins, Repair, Seat, State, Survey, UNREACHED_WINDOWS},
};
use serde_json::{Value, json};

/// Objects shown to people; programs are told more.
pub(super) const SHOWN: usize = 10;

/// `all 6: 812; margin 2: 14; margin 0: 1; lost: 0`.
fn margins_text(margins: &Margins, whole: &str) -> String {
    let mut text = format!("{whole}: {}", margins.whole);
    for (margin, count) in margins.lacking.iter().rev() {
        text.push_str(&format!("; margin {margin}: {count}"));
    }
    text.push_str(&format!("; lost: {}", margins.lost));
    text
}

fn margins(margins: &Margins) -> Value {
    let lacking: serde_json::Map<String, Value> =
        margins.lacking.iter().map(|(margin, count)| (margin.to_string(), (*count).into())).collect();
    json!({ "whole": margins.whole, "margins": lacking, "lost": margins.lost })
}

fn state(seat: &Seat) -> &'static str {
    match seat.state {
        State::Leaving => "leaves",
        State::Answers if seat.is_leaving() => "drained",
        State::Answers if seat.rest.is_some() => "rests",
        State::Answers if seat.deal.offer.suspended => "suspended",
        State::Answers => "answers",
        State::Doubted => "doubted",
        State::Away => "away",
        State::Missing => "missing",
        State::Unreached => "unreached",
        State::Closed => "closed",
        State::GivenUp => "gone",
        State::Ending => "ending",
    }
}

fn standing(seat: &Seat) -> String {
    let missed = match seat.missed_in_row {
        0 => String::new(),
        1 => ", missed its last window".to_owned(),
        count => format!(", missed {count} windows in a row"),
    };
    let what = match seat.state {
        State::Leaving => "answers, and leaves",
        State::Answers if seat.is_leaving() => "answers, takes nothing new",
        State::Answers => "answers",
        State::Doubted => "answers, proves nothing",
        State::Away | State::Missing => "does not answer",
        State::Unreached => "proves, and is never reached",
        State::Closed => "closed by the ledger",
        State::GivenUp => "gone, as you say",
        State::Ending => "its deal ends",
    };
    let declined = match seat.named_declined {
        0 => String::new(),
        count => format!(", declines {count} of them"),
    };
    format!("{what}{}{missed}{declined}", resting(seat))
}

/// How much of what it should have one gives, and what it has until it rests no more.
fn held(seat: &Seat) -> String {
    let given = format!("{} of {}", seat.there, seat.named);
    if seat.kept > 0 { format!("{given}, and {} it gives later", seat.kept) } else { given }
}

/// What one that answers does not do for now, and until when.
fn resting(seat: &Seat) -> String {
    let Some(rest) = seat.rest else { return String::new() };
    let what = if rest.gives { "takes nothing now" } else { "takes and gives nothing now" };
    match rest.until_ms {
        Some(until_ms) => format!(", rests until {}: {what}", time::utc(until_ms)),
        None => format!(", rests: {what}"),
    }
}

/// For people: what is left of each stripe, and who has it.
pub(super) fn survey_text(bucket: &str, survey: &Survey) -> String {
    let n = survey.shape.n();
    let rows: Vec<_> = survey
        .seats
        .iter()
        .map(|seat| vec![seat.deal.offer.zone.clone(), short(&seat.node().to_string()), held(seat), standing(seat)])
        .collect();
    let mut text = format!(
        "hodei://{bucket}, {} of {n}: {} stripes in {} parts, {}\n",
        survey.shape.k(),
        survey.stripes.all(),
        survey.parts,
        bytes(survey.bytes)
    );
    let all = format!("all {n}");
    text.push_str(&format!("stripes  {}\n", margins_text(&survey.stripes, &all)));
    text.push_str(&format!("index    {}\n", margins_text(&survey.index, &all)));
    text.push_str(&format!("pages    {}\n\n", margins_text(&survey.pages, "all copies")));
    text.push_str(&table(&["ZONE", "NODE", "SHARDS", "STATE"], &rows));
    for one in survey.unreadable.iter().take(SHOWN) {
        let may = if one.may_return { ", unless who is away returns" } else { "" };
        text.push_str(&format!("\ncannot be read: hodei://{bucket}/{} ({} stripes{may})", one.key, one.stripes));
    }
    if survey.unreadable_objects > SHOWN as u64 {
        text.push_str(&format!("\nand {} more objects", survey.unreadable_objects - SHOWN as u64));
    }
    text
}

pub(super) fn survey(bucket: &str, survey: &Survey) -> Value {
    let seat = |seat: &Seat| {
        json!({
            "node": seat.node().to_string(), "operator": seat.deal.offer.operator.to_string(),
            "zone": seat.deal.offer.zone, "deal": seat.deal.id, "state": state(seat), "answers": seat.answers,
            "rests": seat.rest.is_some(), "rests_until_ms": seat.rest.and_then(|rest| rest.until_ms),
            "gives": seat.answers && seat.rest.is_none_or(|rest| rest.gives),
            "missed_in_row": seat.missed_in_row, "shards": seat.named, "shards_there": seat.there, "shards_kept": seat.kept, "shards_declined": seat.named_declined,
        })
    };
    let unreadable = survey.unreadable.iter();
    let unreadable =
        unreadable.map(|one| json!({ "key": one.key, "stripes": one.stripes, "may_return": one.may_return }));
    json!({
        "schema": "hodei.data.repair.survey/1", "bucket": bucket, "k": survey.shape.k(), "n": survey.shape.n(),
        "repaired_below": survey.least, "parts": survey.parts, "bytes": survey.bytes,
        "stripes": margins(&survey.stripes), "index": margins(&survey.index), "pages": margins(&survey.pages),
        "due_parts": survey.due_parts, "due_bytes": survey.due_bytes, "index_due": survey.is_index_due,
        "kept_parts": survey.kept_parts, "providers": survey.seats.iter().map(seat).collect::<Vec<_>>(),
        "unreadable": unreadable.collect::<Vec<_>>(), "unreadable_objects": survey.unreadable_objects,
    })
}

/// For people: what is taken for granted of those that do not simply answer.
pub(super) fn assumed(planned: &Repair) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |is_meant: &dyn Fn(&Seat) -> bool, what: &str| {
        let seats = planned.survey.seats.iter().filter(|seat| is_meant(seat));
        let nodes: Vec<String> = seats.map(|seat| short(&seat.node().to_string())).collect();
        if !nodes.is_empty() {
            lines.push(format!("{}: {what}", nodes.join(", ")));
        }
    };
    let of = |state: State| move |seat: &Seat| seat.state == state;
    say(
        &of(State::Away),
        &format!(
            "no answer, and no proof missed: taken to come back, and what lies there is stored again only where no other \
             shard may go; asked in vain in {UNREACHED_WINDOWS} windows it counts as gone. Gone for good? Say --without.",
        ),
    );
    say(
        &of(State::Missing),
        "no answer, and proofs missed: what lies there counts as gone, the deal stays in case of a return. Gone for good? \
         Say --without, and another takes the place.",
    );
    say(
        &of(State::Doubted),
        "an answer, and no proof for windows: what it says counts for nothing, and is read where it is needed.",
    );
    let end = match planned.kept_until_ms {
        Some(_) => "the deal stays, since locked versions keep all deals of the bucket.",
        None => "the deal ends, and another takes the place where one is on offer.",
    };
    say(&of(State::Leaving), &format!("it leaves, and what lies there is moved: {end}"));
    say(
        &of(State::Unreached),
        &format!(
            "proves, and did not answer in any of the last {UNREACHED_WINDOWS} windows in which it was asked: what lies there \
             counts as gone, {end}"
        ),
    );
    say(&of(State::Closed), &format!("closed by the ledger for missed proofs: {end}"));
    say(&of(State::GivenUp), &format!("gone, as you say, with all that lies there: {end}"));
    say(&|seat| seat.state == State::GivenUp && seat.answers, "answers all the same: is it the one you mean?");
    say(
        &|seat| seat.declined > 0,
        "declines some of it, by its signed word: that is put elsewhere, and paid for no more once its new root is posted.",
    );
    say(
        &|seat| seat.rest.is_some(),
        "rests: a cap of its transfer is reached, its power is spared, or it is full. It keeps its deal and what it has, which \
         counts where it is given and is taken to come back where it is not; nothing new goes there meanwhile.",
    );
    say(&Seat::is_leaving, "what lies there stays, and nothing new comes: `hodei data redundancy` moves it elsewhere.");
    lines
}

/// For people: what moves, why, what that costs, and what the bucket then survives.
pub(super) fn plan_text(planned: &Repair, rate: Option<u64>) -> Vec<String> {
    let survey = &planned.survey;
    let mut lines = Vec::new();
    if planned.is_done() {
        return lines;
    }
    let why = match (survey.least == survey.shape.n(), survey.shape.n()) {
        (true, _) => "a stripe that lacks a shard is stored again".to_owned(),
        (false, n) => {
            format!("a stripe is stored again when fewer than {} of {n} shards are left; --all takes all", survey.least)
        }
    };
    let mut moved = format!(
        "To put back: {} in {} parts are read and stored again, {} sent to providers{} ({why})",
        bytes(survey.due_bytes),
        survey.due_parts,
        bytes(planned.sent_bytes),
        if survey.is_index_due { "; the index is written anew" } else { "" }
    );
    if let Some(rate) = rate {
        moved.push_str(&format!("; at least {} s at this rate", survey.due_bytes.div_ceil(rate)));
    }
    lines.push(format!("{moved}."));
    if survey.kept_parts > 0 {
        lines.push(format!(
            "Not put back: {} parts that are under customers' keys, told of by links, or locked so that nobody can remove \
             them; they stay where they are.",
            survey.kept_parts
        ));
    }
    if planned.open.len() < planned.lost {
        lines.push(format!(
            "{} of {} that are gone find another in their place: no more that answer are on offer with the room.",
            planned.open.len(),
            planned.lost
        ));
    }
    if planned.short.is_none() {
        lines.extend(planned.plan.promises());
    }
    let windows = (planned.window_then, planned.window_now);
    lines.push(again::price(windows, planned.escrow(), (planned.open.len(), planned.enlarge.len())));
    lines
}

pub(super) fn plan(bucket: &str, planned: &Repair) -> Value {
    let survey = &planned.survey;
    json!({
        "schema": "hodei.data.repair.plan/1", "bucket": bucket, "k": survey.shape.k(), "n": survey.shape.n(),
        "survives": survey.shape.t(), "odds": odds(&planned.plan.odds()), "parts": survey.due_parts,
        "bytes": survey.due_bytes, "sent_bytes": planned.sent_bytes, "index": survey.is_index_due,
        "kept_parts": survey.kept_parts, "lost_deals": planned.lost, "new_deals": planned.open.len(), "larger_deals": planned.enlarge.len(),
        "gone_deals": planned.gone.len(), "escrow_wei": planned.escrow().to_string(),
        "window_wei": planned.window_then.to_string(), "window_before_wei": planned.window_now.to_string(),
        "short": planned.short.as_ref().map(ToString::to_string), "assumed": assumed(planned),
        "told": plan_text(planned, None),
    })
}

pub(super) fn done_text(bucket: &str, planned: &Repair, recoded: &Recoded, ended: &Ended, now: &Survey) -> String {
    let mut text = format!(
        "put back {} of hodei://{bucket} in {} parts; stripes now: {}",
        bytes(recoded.bytes),
        recoded.parts,
        margins_text(&now.stripes, &format!("all {}", now.shape.n()))
    );
    if !planned.open.is_empty() {
        text.push_str(&format!("; {} new deals", planned.open.len()));
    }
    text.push_str(&again::ended(&ended.closed));
    if ended.kept_deals > 0 {
        text.push_str(&format!("; {} deals of those that are gone stay", ended.kept_deals));
    }
    text.push_str(&again::short(recoded));
    if now.due_parts > 0 {
        text.push_str(&format!("; {} parts are still due: run it again", now.due_parts));
    }
    text
}

pub(super) fn done(bucket: &str, planned: &Repair, recoded: &Recoded, ended: &Ended, now: &Survey) -> Value {
    json!({
        "schema": "hodei.data.repair/1", "bucket": bucket, "parts": recoded.parts, "bytes": recoded.bytes,
        "swaps": recoded.swaps, "short_parts": recoded.short_parts, "failed_parts": recoded.failures.len(),
        "new_deals": planned.open.len(), "escrow_wei": planned.escrow().to_string(),
        "ended_deals": ended.closed.ended, "refund_wei": ended.closed.refunded.to_string(),
        "closing_deals": ended.closed.closing, "kept_deals": ended.kept_deals,
        "stripes": margins(&now.stripes), "index": margins(&now.index), "pages": margins(&now.pages),
        "due_parts": now.due_parts, "kept_parts": now.kept_parts, "unreadable_objects": now.unreadable_objects,
    })
}
