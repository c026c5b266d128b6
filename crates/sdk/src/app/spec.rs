//! Check what a person wants of an app, before anything is paid.
//!
//! What breaks a rule is told with its line, the rule, and the nearest that would keep it. A [`Spec`] within the rules
//! can be refused only for what changes: offers, prices, and what the wallet holds.

use super::{
    contained::Contained,
    draft::{Draft, Lines},
    spare::SPARES_MAX,
    unit,
};
use crate::{
    nearest::nearest,
    wallet::{format_coins, parse_coins},
};
use alloy_primitives::{B256, FixedBytes, U256};
use hodei_types::{
    app::{Limits, is_name, volume::Volume},
    market::{
        AVAILABILITY_BP, CAPACITY_MAX, CAPACITY_MIN, Capacity, Class, LEASE_SECS_MIN, LEVEL_REPLICAS_MAX, Order,
        PATIENCE_MS_MAX, REGIONS, REPLICAS_MAX, Runtime, TERM_SECS_MAX, TIERS, read_percent, region, show_percent,
    },
};

const MIB: u64 = 1 << 20;
const DAY_SECS: u64 = 24 * 3600;
/// A small service: a tenth of a CPU and room for the default request.
const CPU_MILLI: u64 = 100;
const MEMORY_BYTES: u64 = 256 * MIB;
/// A container: a quarter of a CPU, and room for what it writes.
const CONTAINER_CPU_MILLI: u64 = 250;
const CONTAINER_DISK_BYTES: u64 = 1024 * MIB;
/// Less is no file system.
const CONTAINER_DISK_BYTES_MIN: u64 = 64 * MIB;

/// Calls of a billed millisecond that are paid ahead, and the most: what a lease may have in escrow.
const CALLS: u64 = 1_000_000;
pub(super) const CALLS_MAX: u64 = 10_000_000;
/// Stands for a component that is not read yet: an order of nothing would be a reservation.
const UNREAD: B256 = B256::repeat_byte(0xff);

/// What is to run, within the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub name: String,
    pub runs: Runs,
    /// What one request may use.
    pub limits: Limits,
    /// Where it may run and for how much; its workload is not known before the component is read.
    pub terms: Order,
    /// Most wei a replica and hour, where that was said.
    pub price_max: Option<u128>,
    /// Most wei that are bound for it.
    pub budget: Option<U256>,
    /// On call: calls of a billed millisecond that each replica is paid ahead for; else 0.
    pub calls: u64,
    /// Further hosts that keep a copy of what it runs.
    pub spares: u8,
    /// What it was made of: an update changes what is said anew, and keeps the rest.
    pub draft: Draft,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runs {
    /// The component's file as it was said.
    Component(String),
    Container(Box<Contained>),
}

/// A rule that is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Broken {
    /// Of the file; none where a flag says it.
    pub line: Option<usize>,
    pub key: &'static str,
    pub found: String,
    pub rule: String,
    /// What would keep the rule.
    pub nearest: Option<String>,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, key, found, rule, nearest } = self;
        match line {
            Some(line) => write!(f, "line {line}: {key} is {found}: {rule}")?,
            None => write!(f, "{key} is {found}: {rule}")?,
        }
        nearest.as_ref().map_or(Ok(()), |nearest| write!(f, "; the nearest is {nearest}"))
    }
}

/// A draft as it is checked.
pub(super) struct Checked<'a> {
    lines: &'a Lines,
}

static NO_LINES: Lines = Lines::new();

impl Checked<'_> {
    /// What no line of a file says.
    pub(super) fn of_flags() -> Self {
        Self { lines: &NO_LINES }
    }

    pub(in crate::app) fn broken(
        &self,
        key: &'static str,
        found: impl ToString,
        rule: &str,
        nearest: Option<String>,
    ) -> Broken {
        let line = self.lines.get(key).copied();
        Broken { line, key, found: found.to_string(), rule: rule.to_owned(), nearest }
    }

    /// A number of this range.
    pub(super) fn number(
        &self,
        key: &'static str,
        found: Option<u64>,
        default: u64,
        range: (u64, u64),
    ) -> Result<u64, Broken> {
        let (least, most) = range;
        let found = found.unwrap_or(default);
        if (least..=most).contains(&found) {
            return Ok(found);
        }
        let nearest = found.clamp(least, most).to_string();
        Err(self.broken(key, found, &format!("{least} to {most}"), Some(nearest)))
    }

    /// What `unit` reads and shows, of this range.
    pub(in crate::app) fn amount(
        &self,
        key: &'static str,
        found: Option<&String>,
        default: u64,
        (least, most): (u64, u64),
        unit: &unit::Unit,
    ) -> Result<u64, Broken> {
        let Some(text) = found else { return Ok(default) };
        let (low, high) = (unit.show(least), unit.show(most));
        let Some(value) = unit.read(text) else {
            let rule = format!("{}, {low} to {high}", unit.written);
            return Err(self.broken(key, format!("{text:?}"), &rule, Some(unit.show(default))));
        };
        if (least..=most).contains(&value) {
            return Ok(value);
        }
        let nearest = unit.show(value.clamp(least, most));
        Err(self.broken(key, format!("{text:?}"), &format!("{low} to {high}"), Some(nearest)))
    }

    fn coins(&self, key: &'static str, found: Option<&String>) -> Result<Option<U256>, Broken> {
        let rule = "coins, as 1 or 0.25";
        let read = |text: &String| {
            let wei = parse_coins(text).filter(|wei| wei.bit_len() <= 120);
            wei.ok_or_else(|| self.broken(key, format!("{text:?}"), rule, Some(unit::coins(key, text))))
        };
        found.map(read).transpose()
    }

    fn name(&self, draft: &Draft, file: &str) -> Result<String, Broken> {
        let stem = file.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        // An image's tag or digest, or a file's ending.
        let stem = stem.split([':', '@']).next().unwrap_or_default();
        let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
        let name = draft.name.clone().unwrap_or_else(|| label(stem));
        if is_name(&name) {
            return Ok(name);
        }
        let nearest = Some(label(&name)).filter(|name| is_name(name));
        Err(self.broken("name", format!("{name:?}"), "1 to 63 of a-z, 0-9 and -, with no - first or last", nearest))
    }

    fn regions(&self, draft: &Draft) -> Result<u64, Broken> {
        let Some(names) = draft.regions.as_ref() else { return Ok((1 << REGIONS.len()) - 1) };
        if names.is_empty() {
            return Err(self.broken("regions", "empty", "at least one region", Some(format!("{:?}", REGIONS[0]))));
        }
        names.iter().try_fold(0, |mask, name| match region(name) {
            Some(place) => Ok(mask | 1 << place),
            None => {
                let rule = format!("regions are {}", REGIONS.join(", "));
                Err(self.broken("regions", format!("{name:?}"), &rule, nearest(name, &REGIONS)))
            }
        })
    }

    fn country(&self, draft: &Draft) -> Result<FixedBytes<2>, Broken> {
        let Some(text) = draft.country.as_ref() else { return Ok(FixedBytes::ZERO) };
        let letters: Option<[u8; 2]> = text.as_bytes().try_into().ok();
        let capital = |letters: &[u8; 2]| letters.iter().all(u8::is_ascii_uppercase);
        let nearest = unit::country(text);
        letters
            .filter(capital)
            .map(FixedBytes::from)
            .ok_or_else(|| self.broken("country", format!("{text:?}"), "two capital letters, as \"ES\"", nearest))
    }

    /// The least kind of place, as the ledger numbers them.
    fn tier(&self, draft: &Draft) -> Result<u8, Broken> {
        let Some(text) = draft.tier.as_deref() else { return Ok(0) };
        let found = TIERS.iter().position(|name| *name == text).map(|place| place as u8);
        let rule = format!("one of {}", TIERS.join(", "));
        found.ok_or_else(|| self.broken("tier", format!("{text:?}"), &rule, nearest(text, &TIERS)))
    }

    fn class(&self, draft: &Draft) -> Result<Class, Broken> {
        const NAMES: [&str; 4] = ["instant", "deferrable", "preemptible", "on-call"];
        let Some(text) = draft.class.as_deref() else { return Ok(Class::Instant) };
        let found = NAMES.iter().position(|name| *name == text).map(|place| Class::ALL[place]);
        let rule = format!("one of {}", NAMES.join(", "));
        found.ok_or_else(|| self.broken("class", format!("{text:?}"), &rule, nearest(text, &NAMES)))
    }

    /// How long an order waits: only a deferrable one does, and it must say for what price.
    fn patience_ms(&self, draft: &Draft, class: Class) -> Result<u64, Broken> {
        let unit = &unit::TIME;
        if class != Class::Deferrable {
            return match &draft.patience {
                None => Ok(0),
                Some(text) => {
                    let rule = "only what is deferrable waits";
                    Err(self.broken("patience", format!("{text:?}"), rule, Some("class = \"deferrable\"".into())))
                }
            };
        }
        if draft.price_max.is_none() {
            let rule = "what waits is paid for at its highest price: it must say price_max";
            return Err(self.broken("class", "\"deferrable\"", rule, Some("\"instant\"".into())));
        }
        let secs = self.amount("patience", draft.patience.as_ref(), 3600, (1, PATIENCE_MS_MAX / 1000), unit)?;
        Ok(secs * 1000)
    }

    /// How many calls are paid ahead: only of what is on call.
    fn calls(&self, draft: &Draft, class: Class) -> Result<u64, Broken> {
        if class == Class::OnCall {
            return self.number("calls", draft.calls, CALLS, (1, CALLS_MAX));
        }
        match draft.calls {
            None => Ok(0),
            Some(calls) => {
                let rule = "only what is on call is paid by the call";
                Err(self.broken("calls", calls, rule, Some("class = \"on-call\"".into())))
            }
        }
    }

    /// How many hosts keep a copy: beside what runs alone.
    fn spares(&self, draft: &Draft, class: Class) -> Result<u8, Broken> {
        let spares = self.number("spares", draft.spares, 0, (0, SPARES_MAX))?;
        if spares > 0 && matches!(class, Class::OnCall | Class::Deferrable) {
            let rule =
                "copies are kept beside what runs: what is on call is one itself, and what waits runs nowhere yet";
            return Err(self.broken("spares", spares, rule, Some("0".into())));
        }
        if spares > 0 && draft.image.is_some() {
            let rule =
                "not yet: hosts keep copies of components alone; two replicas of an image are that to each other";
            return Err(self.broken("spares", spares, rule, Some("replicas = 2".into())));
        }
        Ok(spares as u8)
    }

    /// What hosts must promise: nothing can be promised of what they may end at any time.
    fn availability(&self, draft: &Draft, class: Class) -> Result<u16, Broken> {
        let Some(text) = draft.availability.as_deref() else { return Ok(0) };
        let (least, most) = (*AVAILABILITY_BP.start(), *AVAILABILITY_BP.end());
        let rule = format!("{} to {}", show_percent(least), show_percent(most));
        let found = read_percent(text);
        let nearest = format!("{:?}", show_percent(found.unwrap_or(9_990).clamp(least, most)));
        let within = found.filter(|bp| AVAILABILITY_BP.contains(bp));
        let bp = within.ok_or_else(|| self.broken("availability", format!("{text:?}"), &rule, Some(nearest)))?;
        if matches!(class, Class::Preemptible | Class::OnCall) {
            let rule = "nothing is promised of what its host may end at any time, or starts when it is asked";
            return Err(self.broken("availability", format!("{text:?}"), rule, Some("class = \"instant\"".into())));
        }
        Ok(bp)
    }

    fn limits(&self, draft: &Draft, memory_bytes: u64) -> Result<Limits, Broken> {
        let default = Limits::default();
        let (secs, body) = (Limits::DEADLINE_MS_MAX / 1000, Limits::BODY_BYTES_MAX);
        let deadline = draft.request_deadline.as_ref();
        let deadline = self.amount("request_deadline", deadline, default.deadline_ms / 1000, (1, secs), &unit::TIME)?;
        let least = Limits::MEMORY_BYTES_MIN;
        let most = Limits::MEMORY_BYTES_MAX.min(memory_bytes);
        let memory = default.memory_bytes.min(most);
        let memory =
            self.amount("request_memory", draft.request_memory.as_ref(), memory, (least, most), &unit::SIZE)?;
        let body =
            self.amount("request_body", draft.request_body.as_ref(), default.request_bytes, (0, body), &unit::SIZE)?;
        let fuel = self.number("request_fuel", draft.request_fuel, default.fuel, (1, Limits::FUEL_MAX))?;
        Ok(Limits {
            fuel,
            memory_bytes: memory,
            deadline_ms: deadline * 1000,
            request_bytes: body,
            response_bytes: body,
        })
    }
}

impl Draft {
    /// What is to run, if each rule is kept; `lines` tells where each key stands, where a file says it.
    pub fn check(&self, lines: &Lines) -> Result<Spec, Broken> {
        let checked = Checked { lines };
        let (name, runs) = match (&self.component, &self.image) {
            (Some(component), None) => {
                checked.component(self)?;
                (checked.name(self, component)?, Runs::Component(component.clone()))
            }
            (None, Some(image)) => {
                let contained = checked.contained(self, image)?;
                (checked.name(self, image)?, Runs::Container(Box::new(contained)))
            }
            (None, None) => {
                return Err(checked.broken("component", "not said", "a .wasm or .wat file, or an image", None));
            }
            (Some(_), Some(image)) => {
                let rule = "one of component and image";
                return Err(checked.broken("image", format!("{image:?}, beside a component"), rule, None));
            }
        };
        let terms = self.terms(&checked)?;
        let price_max = self.price_max.is_some().then_some(terms.priceMax);
        let limits = checked.limits(self, terms.each.memoryBytes)?;
        let budget = checked.coins("budget", self.budget.as_ref())?;
        let calls = checked.calls(self, checked.class(self)?)?;
        let spares = checked.spares(self, checked.class(self)?)?;
        Ok(Spec { name, runs, limits, terms, price_max, budget, calls, spares, draft: self.clone() })
    }

    /// What is to be held and runs nothing, if each rule is kept. Nothing of it is of a component.
    pub fn reservation(&self) -> Result<Order, Broken> {
        let terms = self.terms(&Checked { lines: &Lines::new() })?;
        Ok(Order { workload: B256::ZERO, ..terms })
    }

    /// Where replicas of something may run and for how much.
    fn terms(&self, checked: &Checked<'_>) -> Result<Order, Broken> {
        let most = &CAPACITY_MAX;
        let is_container = self.image.is_some();
        let (cpu_milli, disk_bytes, disk_bytes_min) = match is_container {
            true => (CONTAINER_CPU_MILLI, CONTAINER_DISK_BYTES, CONTAINER_DISK_BYTES_MIN),
            false => (CPU_MILLI, 0, 0),
        };
        let runtime = if is_container { Runtime::Oci } else { Runtime::Wasm };
        // Each, and as much again for the copy that a snapshot is.
        let volumes = if is_container { checked.volumes(self)? } else { Vec::new() };
        let volume_bytes = volumes.iter().map(|volume| volume.bytes * 2).sum();
        let each = Capacity {
            cpuMilli: checked.amount(
                "cpu",
                self.cpu.as_ref(),
                cpu_milli,
                (CAPACITY_MIN.cpuMilli, most.cpuMilli),
                &unit::CPU,
            )?,
            memoryBytes: checked.amount(
                "memory",
                self.memory.as_ref(),
                MEMORY_BYTES,
                (CAPACITY_MIN.memoryBytes, most.memoryBytes),
                &unit::SIZE,
            )?,
            diskBytes: checked
                .amount(
                    "disk",
                    self.disk.as_ref(),
                    disk_bytes,
                    (disk_bytes_min, most.diskBytes.saturating_sub(volume_bytes)),
                    &unit::SIZE,
                )?
                .saturating_add(volume_bytes),
            bandwidthBits: checked.amount(
                "bandwidth",
                self.bandwidth.as_ref(),
                0,
                (0, most.bandwidthBits),
                &unit::RATE,
            )?,
            transferBytes: checked.amount(
                "transfer",
                self.transfer.as_ref(),
                0,
                (0, most.transferBytes),
                &unit::SIZE,
            )?,
        };
        let class = checked.class(self)?;
        let most = if self.availability.is_some() { LEVEL_REPLICAS_MAX } else { REPLICAS_MAX };
        let replicas = checked.number("replicas", self.replicas, 1, (1, most.into()))?;
        let limit = |key, found, default| checked.number(key, found, default, (0, REPLICAS_MAX.into()));
        let price_max = checked.coins("price_max", self.price_max.as_ref())?.map(|wei| wei.saturating_to::<u128>());
        Ok(Order {
            each,
            replicas: replicas as u8,
            regions: checked.regions(self)?,
            country: checked.country(self)?,
            runtime: runtime as u8,
            tierMin: checked.tier(self)?,
            attestationMin: 0,
            renewableMin: checked.number("renewable", self.renewable, 0, (0, 100))? as u8,
            priceMax: price_max.unwrap_or(u128::MAX),
            perHost: limit("per_host", self.per_host, 1)? as u8,
            perOperator: limit("per_operator", self.per_operator, 0)? as u8,
            perNetwork: limit("per_network", self.per_network, 0)? as u8,
            class: class as u8,
            secs: checked.amount("term", self.term.as_ref(), DAY_SECS, (LEASE_SECS_MIN, TERM_SECS_MAX), &unit::TIME)?,
            patienceMs: checked.patience_ms(self, class)?,
            workload: UNREAD,
            collateralMin: checked
                .coins("collateral_min", self.collateral_min.as_ref())?
                .map_or(0, |wei| wei.saturating_to::<u128>()),
            availabilityMinBp: checked.availability(self, class)?,
            within: checked.number("within", self.within, 0, (0, u64::MAX))?,
            exclude: Vec::new(),
        })
    }
}

impl Spec {
    /// Volumes, and seconds from one snapshot of them to the next; none where it has none.
    pub fn volumes(&self) -> Option<(&[Volume], u64)> {
        match &self.runs {
            Runs::Container(contained) if !contained.volumes.is_empty() => {
                Some((&contained.volumes, super::volume::snapshot_secs(&self.draft)))
            }
            _ => None,
        }
    }

    /// Refuses a deposit that is more than may be bound, by the term that would not be.
    pub(super) fn check_budget(&self, deposit: U256, lines: &Lines) -> Result<(), Broken> {
        let Some(budget) = self.budget.filter(|budget| deposit > *budget) else { return Ok(()) };
        let checked = Checked { lines };
        let secs = (U256::from(self.terms.secs) * budget).checked_div(deposit).unwrap_or_default();
        let secs: u64 = secs.saturating_to();
        let rule = format!("{} of this binds {}", unit::TIME.show(self.terms.secs), format_coins(deposit));
        let nearest = match secs >= LEASE_SECS_MIN {
            true => format!("term = {}", unit::TIME.show(secs)),
            false => format!("{:?}", format_coins(deposit)),
        };
        Err(checked.broken("budget", format!("{:?}", format_coins(budget)), &rule, Some(nearest)))
    }
}

/// What a name would be as a label of DNS.
fn label(text: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let text: String = text.chars().take(63).map(letter).collect();
    text.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str) -> Result<Spec, Broken> {
        let (draft, lines) = Draft::parse(&format!("component = \"apps/Hello_World.wasm\"\n{text}")).unwrap();
        draft.check(&lines)
    }

    #[test]
    fn what_is_not_said_has_defaults_that_an_order_takes() {
        let spec = draft("").unwrap();
        assert_eq!(spec.name, "hello-world");
        assert_eq!((spec.terms.replicas, spec.terms.perHost, spec.terms.secs), (1, 1, 86_400));
        assert_eq!((spec.terms.each.cpuMilli, spec.terms.each.memoryBytes), (100, 256 << 20));
        assert_eq!(spec.terms.check(), Ok(()));
        assert_eq!(spec.limits, Limits::default());
    }

    #[test]
    fn a_container_has_room_of_its_own_and_its_keys_are_no_components() {
        let of = |text: &str| {
            let (draft, lines) = Draft::parse(text).unwrap();
            draft.check(&lines)
        };
        let text = "image = \"ghcr.io/me/Shop:1.2\"\ncommand = [\"serve\"]\nport = 0\nstop = \"20s\"\n";
        let spec = of(&format!("{text}[env]\nA = \"1\"\n")).unwrap();
        assert_eq!((spec.name.as_str(), spec.terms.runtime, spec.terms.check()), ("shop", Runtime::Oci as u8, Ok(())));
        let each = &spec.terms.each;
        assert_eq!((each.cpuMilli, each.memoryBytes, each.diskBytes), (250, 256 << 20, 1 << 30));
        let Runs::Container(contained) = spec.runs else { panic!("a component") };
        assert_eq!((contained.port, contained.stop_secs), (Some(0), Some(20)));
        assert_eq!(contained.command, Some(vec!["serve".to_owned()]));
        assert_eq!(contained.env, [("A".to_owned(), "1".to_owned())]);
        for (text, key) in [
            ("image = \"a\"\nport = 70000", "port"),
            ("image = \"a\"\nrequest_fuel = 7", "request_fuel"),
            ("image = \"a\"\nclass = \"on-call\"", "class"),
            ("image = \"a\"\ndisk = \"1MiB\"", "disk"),
            ("image = \"a\"\nrestart = \"maybe\"", "restart"),
            ("image = \"a\"\nstop = \"1h\"", "stop"),
            ("component = \"a.wasm\"\nport = 80", "port"),
            ("component = \"a.wasm\"\nimage = \"a\"", "image"),
        ] {
            let broken = of(text).unwrap_err();
            assert_eq!((broken.key, broken.line), (key, Some(2)), "{broken}");
        }
    }

    #[test]
    fn what_is_held_runs_nothing_and_what_runs_may_be_placed_in_it() {
        let flags = Draft { cpu: Some("4".into()), term: Some("30d".into()), ..Draft::default() };
        let held = flags.reservation().unwrap();
        assert!(held.is_reservation() && held.check().is_ok());
        assert_eq!((held.each.cpuMilli, held.secs), (4000, 30 * 86_400));
        let runs = draft("within = 7\nclass = \"preemptible\"").unwrap().terms;
        assert_eq!((runs.within, runs.is_reservation(), runs.check()), (7, false, Ok(())));
    }

    #[test]
    fn what_is_said_is_what_is_ordered() {
        let spec = draft(
            "name = \"shop\"\nreplicas = 5\ncpu = \"1.25\"\nmemory = \"64MiB\"\ndisk = \"2GiB\"\nregions = \
             [\"local\", \"af-north\"]\nbandwidth = \"8Mbit\"\ntransfer = \"1GiB\"\ntier = \"office\"\nrenewable = 50\ncountry = \"ES\"\nprice_max = \"0.5\"\nper_operator = 2\nclass = \
             \"deferrable\"\npatience = \"10m\"\nterm = \"90s\"\nbudget = \"2\"\nrequest_deadline = \"5s\"\navailability = \
             \"99.9%\"\n",
        )
        .unwrap();
        let terms = &spec.terms;
        assert_eq!(
            terms.each,
            Capacity {
                cpuMilli: 1250,
                memoryBytes: 64 << 20,
                diskBytes: 2 << 30,
                bandwidthBits: 8_000_000,
                transferBytes: 1 << 30
            }
        );
        assert_eq!((terms.tierMin, terms.renewableMin), (1, 50));
        assert_eq!((terms.regions, terms.country.0, terms.perOperator), (0b101, *b"ES", 2));
        assert_eq!((terms.class, terms.patienceMs, terms.secs), (1, 600_000, 90));
        assert_eq!((terms.priceMax, terms.availabilityMinBp), (500_000_000_000_000_000, 9_990));
        assert_eq!(spec.budget, Some(U256::from(2_000_000_000_000_000_000u64)));
        assert_eq!((spec.limits.deadline_ms, spec.limits.memory_bytes), (5000, 64 << 20), "no more than it has");
        assert_eq!(terms.check(), Ok(()));
    }

    #[test]
    fn a_broken_rule_is_told_with_its_line_and_the_nearest_that_keeps_it() {
        for (text, key, nearest) in [
            ("name = \"My Shop\"", "name", "my-shop"),
            ("replicas = 65", "replicas", "64"),
            ("replicas = 0", "replicas", "1"),
            ("cpu = \"0.001\"", "cpu", "\"0.01\""),
            ("cpu = \"lots\"", "cpu", "\"0.1\""),
            ("memory = \"1KiB\"", "memory", "\"1MiB\""),
            ("memory = \"64MB\"", "memory", "\"256MiB\""),
            ("regions = [\"eu-nort\"]", "regions", "\"eu-north\""),
            ("regions = []", "regions", "\"local\""),
            ("country = \"es\"", "country", "\"ES\""),
            ("country = \"ESP\"", "country", "\"ES\""),
            ("country = \"AUT\"", "country", "\"AT\""),
            ("tier = \"datacenter\"", "tier", "\"datacentre\""),
            ("renewable = 101", "renewable", "100"),
            ("bandwidth = \"8MiB\"", "bandwidth", "\"0\""),
            ("transfer = \"1GB\"", "transfer", "\"0\""),
            ("price_max = \"-1\"", "price_max", "one without price_max"),
            ("budget = \"1,5\"", "budget", "\"1.5\""),
            ("collateral_min = \"abc\"", "collateral_min", "\"0\""),
            ("class = \"deferrable\"", "class", "\"instant\""),
            ("class = \"preemptable\"", "class", "\"preemptible\""),
            ("patience = \"1h\"", "patience", "class = \"deferrable\""),
            ("calls = 5", "calls", "class = \"on-call\""),
            ("term = \"30s\"", "term", "\"1m\""),
            ("term = \"500d\"", "term", "\"400d\""),
            ("per_host = 90", "per_host", "64"),
            ("availability = \"80%\"", "availability", "\"90%\""),
            ("availability = \"100%\"", "availability", "\"99.99%\""),
            ("availability = \"high\"", "availability", "\"99.9%\""),
            ("replicas = 33\navailability = \"99%\"", "replicas", "32"),
            ("request_memory = \"512MiB\"", "request_memory", "\"256MiB\""),
            ("request_deadline = \"1h\"", "request_deadline", "\"5m\""),
        ] {
            let broken = draft(text).unwrap_err();
            assert_eq!((broken.line, broken.key), (Some(2), key), "{broken}");
            assert_eq!(broken.nearest.as_deref(), Some(nearest), "{broken}");
            assert!(broken.to_string().starts_with("line 2: "), "{broken}");
        }
        let broken = draft("class = \"deferrable\"").unwrap_err();
        assert!(broken.rule.contains("price_max"), "{broken}");
        assert_eq!(draft("budget = \"1,5\"").unwrap_err().key, "budget");
    }

    #[test]
    fn what_is_on_call_says_how_many_calls_are_paid_ahead() {
        let spec = draft("class = \"on-call\"").unwrap();
        assert_eq!((spec.terms.class, spec.calls, spec.terms.check()), (3, CALLS, Ok(())));
        assert_eq!(draft("class = \"on-call\"\ncalls = 7").unwrap().calls, 7);
        assert_eq!(draft("").unwrap().calls, 0);
    }

    #[test]
    fn a_flag_that_breaks_a_rule_has_no_line() {
        let flags = Draft { component: Some("a.wasm".into()), replicas: Some(99), ..Draft::default() };
        let broken = flags.check(&Lines::new()).unwrap_err();
        assert_eq!((broken.line, broken.to_string().as_str()), (None, "replicas is 99: 1 to 64; the nearest is 64"));
        let broken = Draft::default().check(&Lines::new()).unwrap_err();
        assert_eq!(broken.key, "component");
    }

    #[test]
    fn a_budget_that_is_too_small_names_the_term_it_pays_for() {
        let spec = draft("term = \"10h\"\nbudget = \"1\"").unwrap();
        let coin = U256::from(1_000_000_000_000_000_000u64);
        assert_eq!(spec.check_budget(coin, &Lines::new()), Ok(()));
        let broken = spec.check_budget(coin * U256::from(2), &Lines::new()).unwrap_err();
        assert_eq!(broken.nearest.as_deref(), Some("term = \"5h\""));
        let none = spec.check_budget(coin * U256::from(10_000), &Lines::new()).unwrap_err();
        assert_eq!(none.nearest.as_deref(), Some("\"10000\""), "less than a lease's least: what it binds");
    }
}
