//! Say why an order finds no offer: the rule that leaves none, the nearest that is met, and who would offer it how.

use super::{
    asking::{Asking, asking},
    draft::Lines,
    level::Promises,
    unit,
};
use crate::{fault::Fault, wallet::format_coins};
use alloy_primitives::U256;
use hodei_types::{
    abi::IMarket::{Host, Order},
    market::{BP, Capacity, Class, OFFER_MIN, REGIONS, Runtime, TIERS, rate, show_percent},
};

const HOUR_SECS: u128 = 3600;

/// Why an order finds no offer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NoOffer {
    /// Replicas that find a place, and that were wanted.
    pub placed: u64,
    pub wanted: u64,
    /// Hosts that take new leases; of these where it may run; of these with room; of these at its price.
    pub hosts: usize,
    pub there: usize,
    pub roomy: usize,
    pub cheap: usize,
    /// Of these who promise what is asked, with a bond that backs it, if something is.
    pub promising: Option<usize>,
    /// The key that no offer meets, where it is one, and its line in the file that says it.
    pub key: Option<&'static str>,
    pub line: Option<usize>,
    /// What would be met.
    pub nearest: Option<String>,
    /// What somebody types to offer it.
    pub command: String,
    /// No offer can be as cheap as its highest price: that is raised first.
    pub is_priceless: bool,
}

impl std::fmt::Display for NoOffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { placed, wanted, hosts, there, roomy, cheap, promising, nearest, .. } = self;
        if let (Some(line), Some(key)) = (self.line, self.key) {
            write!(f, "line {line}: no offer meets this {key}: ")?;
        }
        let what = if self.key == Some("spares") { "spare copies" } else { "replicas" };
        write!(
            f,
            "{placed} of {wanted} {what} find a place: of {hosts} hosts on offer {there} are where it may run, {roomy} of \
             these have room, {cheap} of these at its price"
        )?;
        if let Some(promising) = promising {
            write!(f, ", {promising} of these promise that availability with a bond that backs it")?;
        }
        nearest.as_ref().map_or(Ok(()), |nearest| write!(f, "; the nearest that is met is {nearest}"))
    }
}

/// A fault with the line of the key that no offer meets.
pub(super) fn on_line(fault: Fault, lines: &Lines) -> Fault {
    match fault {
        Fault::NoOffer(mut none) => {
            none.line = none.key.and_then(|key| lines.get(key).copied());
            Fault::NoOffer(none)
        }
        fault => fault,
    }
}

/// Wei an hour that a host asks for a replica now.
fn hour_of(terms: &Order, host: &Host) -> u128 {
    let part_bp = if terms.class == Class::Preemptible as u8 { host.offer.preemptibleBp } else { BP as u16 };
    rate(&terms.each, &host.offer.prices, host.markupBp, part_bp).saturating_mul(HOUR_SECS)
}

/// What leaves too few offers for these terms.
pub(super) fn no_offer(terms: &Order, placed: u64, hosts: &[Host], promises: &Promises) -> NoOffer {
    let is_there = |host: &&Host| {
        terms.regions >> host.offer.region.min(63) & 1 == 1
            && (terms.country.is_zero() || terms.country == host.offer.country)
            && host.offer.tier >= terms.tierMin
            && host.offer.renewable >= terms.renewableMin
            && !terms.exclude.contains(&host.node)
            && host.collateral >= U256::from(terms.collateralMin)
    };
    let is_open =
        |host: &&Host| !host.retired && host.offer.runtime == terms.runtime && host.collateral >= host.collateralMin;
    let open: Vec<&Host> = hosts.iter().filter(is_open).collect();
    let there: Vec<&Host> = open.iter().copied().filter(is_there).collect();
    let has_room =
        |host: &&Host| terms.each.fits_in(if terms.is_on_call() { &host.offer.capacity } else { &host.free });
    let roomy: Vec<&Host> = there.iter().copied().filter(has_room).collect();
    let cheap: Vec<&Host> = roomy.iter().copied().filter(|host| hour_of(terms, host) <= terms.priceMax).collect();
    let promised = |host: &&Host| promises.of_replica(terms, host.node, hour_of(terms, host) / HOUR_SECS);
    let asked_bp = terms.availabilityMinBp;
    let best_bp = cheap.iter().filter_map(promised).map(|one| one.level.availabilityBp).max();
    let enough = |host: &&&Host| promised(host).is_some_and(|one| one.level.availabilityBp >= asked_bp);
    let promising = (asked_bp > 0).then(|| cheap.iter().filter(enough).count());
    // What keeps it from those hosts is what they promise.
    let is_unpromised = placed == 0 && promising == Some(0) && !cheap.is_empty();
    let level = is_unpromised.then(|| match best_bp {
        Some(bp) => format!("availability = {:?}", show_percent(bp)),
        None => "one without availability".to_owned(),
    });
    let rate = cheap.iter().map(|host| hour_of(terms, host) / HOUR_SECS).min().unwrap_or(0);
    NoOffer {
        placed,
        wanted: terms.replicas.into(),
        hosts: open.len(),
        there: there.len(),
        roomy: roomy.len(),
        cheap: cheap.len(),
        promising,
        key: if is_unpromised { Some("availability") } else { unmet(terms, placed, (&open, &there, &roomy, &cheap)) },
        line: None,
        nearest: level.or_else(|| nearest(terms, placed, (&open, &there, &roomy))),
        command: command(terms, promises.bond(terms, rate)),
        is_priceless: matches!(asking(&terms.each, terms.priceMax), Asking::Nothing),
    }
}

/// The key that leaves no offer of those that were left by the others.
fn unmet(
    terms: &Order,
    placed: u64,
    (open, there, roomy, cheap): (&[&Host], &[&Host], &[&Host], &[&Host]),
) -> Option<&'static str> {
    if placed > 0 {
        return Some("replicas");
    }
    if !roomy.is_empty() {
        return cheap.is_empty().then_some("price_max");
    }
    if !there.is_empty() {
        let room = |host: &Host| if terms.is_on_call() { host.offer.capacity } else { host.free };
        let most = |of: fn(&Capacity) -> u64| there.iter().map(|host| of(&room(host))).max().unwrap_or(0);
        let each = &terms.each;
        let short = [
            ("cpu", most(|room| room.cpuMilli) < each.cpuMilli),
            ("memory", most(|room| room.memoryBytes) < each.memoryBytes),
            ("disk", most(|room| room.diskBytes) < each.diskBytes),
            ("bandwidth", most(|room| room.bandwidthBits) < each.bandwidthBits),
            ("transfer", most(|room| room.transferBytes) < each.transferBytes),
        ];
        return short.iter().find(|(_, is_short)| *is_short).map(|(key, _)| *key);
    }
    if open.is_empty() {
        return None;
    }
    Some(stopped(terms, open).0)
}

/// The rule of where it may run that leaves no host, and those that the rules before it left.
fn stopped<'a>(terms: &Order, open: &[&'a Host]) -> (&'static str, Vec<&'a Host>) {
    let is_in = |host: &Host| terms.regions >> host.offer.region.min(63) & 1 == 1;
    let is_of = |host: &Host| terms.country.is_zero() || terms.country == host.offer.country;
    let is_kind = |host: &Host| host.offer.tier >= terms.tierMin;
    let is_green = |host: &Host| host.offer.renewable >= terms.renewableMin;
    let rules: [(&str, &dyn Fn(&Host) -> bool); 4] =
        [("regions", &is_in), ("country", &is_of), ("tier", &is_kind), ("renewable", &is_green)];
    let mut left = open.to_vec();
    for (key, keeps) in rules {
        if !left.iter().any(|host| keeps(host)) {
            return (key, left);
        }
        left.retain(|host| keeps(host));
    }
    ("collateral_min", left)
}

/// The first rule without which there is an offer, by what it would say then.
fn nearest(terms: &Order, placed: u64, (open, there, roomy): (&[&Host], &[&Host], &[&Host])) -> Option<String> {
    if placed > 0 {
        return Some(format!("replicas = {placed}"));
    }
    let cheapest = roomy.iter().map(|host| hour_of(terms, host)).min();
    if let Some(hour) = cheapest.filter(|hour| *hour > terms.priceMax) {
        return Some(format!("price_max = \"{}\"", format_coins(U256::from(hour))));
    }
    let largest = there.iter().map(|host| host.free).max_by_key(|free| (free.cpuMilli, free.memoryBytes));
    if let Some(room) = largest {
        let each = &terms.each;
        let mut parts = vec![
            format!("cpu = \"{}\"", unit::cpus(room.cpuMilli.min(each.cpuMilli))),
            format!("memory = \"{}\"", unit::size(room.memoryBytes.min(each.memoryBytes))),
            format!("disk = \"{}\"", unit::size(room.diskBytes.min(each.diskBytes))),
        ];
        if each.bandwidthBits > 0 {
            parts.push(format!("bandwidth = {}", unit::RATE.show(room.bandwidthBits.min(each.bandwidthBits))));
        }
        if each.transferBytes > 0 {
            parts.push(format!("transfer = {}", unit::SIZE.show(room.transferBytes.min(each.transferBytes))));
        }
        return Some(parts.join(", "));
    }
    let (key, left) = stopped(terms, open);
    let roomy = || left.iter().filter(|host| terms.each.fits_in(&host.free)).map(|host| &host.offer);
    Some(match key {
        "country" => format!("country = \"{}\"", String::from_utf8_lossy(roomy().next()?.country.as_slice())),
        "tier" => format!("tier = {:?}", TIERS.get(usize::from(roomy().map(|offer| offer.tier).max()?))?),
        "renewable" => format!("renewable = {}", roomy().map(|offer| offer.renewable).max()?),
        "collateral_min" => {
            let most = left.iter().map(|host| host.collateral).max()?;
            format!("collateral_min = \"{}\"", format_coins(most))
        }
        _ => format!("regions = [{:?}]", REGIONS.get(usize::from(roomy().next()?.region))?),
    })
}

/// What an operator would type, with this bond where one is asked for.
fn command(terms: &Order, bond: U256) -> String {
    let region = REGIONS.get(terms.regions.trailing_zeros() as usize).copied().unwrap_or(REGIONS[0]);
    let country = match terms.country.is_zero() {
        true => String::new(),
        false => format!(" --country {}", String::from_utf8_lossy(terms.country.as_slice())),
    };
    let runtime = if terms.runtime == Runtime::Oci as u8 { " --runtime oci" } else { "" };
    let each = &terms.each;
    let (cpu, memory) = (each.cpuMilli.max(OFFER_MIN.cpuMilli), each.memoryBytes.max(OFFER_MIN.memoryBytes));
    let disk = if each.diskBytes > 0 { format!(" --disk {}", mib(each.diskBytes)) } else { String::new() };
    let mut more = String::new();
    if each.bandwidthBits > 0 {
        more.push_str(&format!(" --bandwidth {}", each.bandwidthBits.div_ceil(1_000_000)));
    }
    if each.transferBytes > 0 {
        more.push_str(&format!(" --transfer {}", mib(each.transferBytes)));
    }
    if let Some(tier) = TIERS.get(usize::from(terms.tierMin)).filter(|_| terms.tierMin > 0) {
        more.push_str(&format!(" --tier {tier}"));
    }
    if terms.renewableMin > 0 {
        more.push_str(&format!(" --renewable {}", terms.renewableMin));
    }
    let level = match terms.availabilityMinBp {
        0 => String::new(),
        bp => {
            let bond = if bond.is_zero() { "1".to_owned() } else { format_coins(bond) };
            format!(" --availability {} --bond {bond}", show_percent(bp))
        }
    };
    let prices = asking(each, terms.priceMax).to_string();
    format!(
        "hodei node offer compute{runtime} --region {region}{country} --cpus {} --memory {}{disk}{more}{prices}{level}",
        unit::cpus(cpu),
        mib(memory)
    )
}

/// As an offer says it: nothing below a MiB.
fn mib(bytes: u64) -> String {
    unit::size(bytes.next_multiple_of(1 << 20))
}
