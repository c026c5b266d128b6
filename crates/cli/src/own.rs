//! Tell how a node of one's own stands, from what it says of itself.

use crate::{money, out::bytes, status::short, time};
use alloy_primitives::U256;
use serde_json::Value;
use std::path::Path;

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn addresses(relays: &Value) -> Vec<&str> {
    relays.as_array().into_iter().flatten().filter_map(|relay| relay["address"].as_str()).collect()
}

/// Why nobody reaches a node that names relays; `None`: one has it, or it names none.
pub(crate) fn unreached(node: &Value) -> Option<String> {
    let reached = &node["reached"];
    if reached["connected"] != false {
        return None;
    }
    let since = time::utc(count(&reached["since_s"]).saturating_mul(1_000).min(LAST_MS));
    let relays = addresses(&node["relays"]).join(", ");
    Some(format!(
        "no relay has this node since {since}, of {relays}: look whether it runs and its TCP port is open, or name another in \
         `link.relays` of node.toml"
    ))
}

/// The last moment that has a date of four digits.
const LAST_MS: u64 = 253_370_764_800_000;

fn coins(value: &Value) -> String {
    let wei = value.as_str().and_then(|text| text.parse().ok()).unwrap_or(U256::ZERO);
    money::show(wei)
}

/// What is run for others: capacity, leases, what they pay, and why there are none.
fn computing(key: &str, folder: &Path, compute: &Value) -> Vec<String> {
    let part = |of: &Value| {
        let cpu = count(&of["cpu_milli"]);
        format!("{}.{:03} CPU and {} of memory", cpu / 1000, cpu % 1000, bytes(count(&of["memory_bytes"])))
    };
    let replicas: Vec<&Value> = compute["replicas"].as_array().into_iter().flatten().collect();
    let mut lines = vec![format!(
        "node    {key} in {}: computes with {}, {} leases, {} earned since it started",
        folder.display(),
        part(&compute["capacity"]),
        replicas.len(),
        coins(&compute["earned_wei"]),
    )];
    if compute["free"].is_object() {
        lines.push(format!("        {} free", part(&compute["free"])));
    }
    for replica in replicas {
        let state = replica["state"].as_str().unwrap_or_default();
        let words = replica["words"].as_str().filter(|words| !words.is_empty());
        lines.push(format!(
            "        lease {}: {state}{}, {} requests, {} failed, started {} times, {} a second",
            count(&replica["lease"]),
            words.map(|words| format!(" ({words})")).unwrap_or_default(),
            count(&replica["requests"]),
            count(&replica["failures"]),
            count(&replica["starts"]),
            coins(&replica["rate_wei"]),
        ));
        if let Some(missing) = replica["missing"].as_str().filter(|missing| !missing.is_empty()) {
            lines.push(format!("          not confined by: {missing}"));
        }
    }
    if let Some(why) = compute["idle"].as_str() {
        lines.push(format!("        not earning because {why}"));
    }
    lines
}

/// What a person sees of it, line by line.
pub(crate) fn lines(folder: &Path, node: &Value) -> Vec<String> {
    let key = short(node["node"].as_str().unwrap_or_default());
    let mut lines = Vec::new();
    let provider = &node["provider"];
    if provider.is_object() {
        let of = |name: &str| bytes(count(&provider[name]));
        lines.push(format!(
            "node    {key} in {}: offers {}, uses {} for {} held in {} deals, {} free",
            folder.display(),
            of("pledge_bytes"),
            of("used_bytes"),
            of("held_bytes"),
            count(&provider["deals"]),
            of("free_bytes"),
        ));
        lines.push(format!(
            "        of the offer {} stay in reserve: room for a segment, into which others are written anew",
            of("reserve_bytes")
        ));
        lines.push(format!(
            "        disk {}, {} free, of which {} stay free",
            of("disk_bytes"),
            of("disk_free_bytes"),
            of("keep_free_bytes")
        ));
        lines.push(scrubbed(&provider["scrub"], count(&provider["lost_shards"])));
        lines.extend(caps(&provider["caps"]));
        if let Some(prove) = provider["prove"].as_str() {
            lines.push(format!("        proves {prove}"));
        }
    } else if !node["compute"].is_object() {
        lines.push(format!("node    {key} in {}: offers nothing", folder.display()));
    }
    if node["compute"].is_object() {
        lines.extend(computing(&key, folder, &node["compute"]));
    }
    if node["reached"]["connected"] == true {
        let relays = node["relays"].as_array().into_iter().flatten();
        let has = relays.filter(|relay| relay["connected"] == true).filter_map(|relay| relay["address"].as_str());
        lines.push(format!("        reached through the relay {}", has.collect::<Vec<_>>().join(", ")));
    } else if let Some(why) = unreached(node) {
        lines.push(format!("        {why}"));
    }
    let relay = &node["relay"];
    if relay.is_object() {
        lines.push(format!(
            "        relay for others: {} connected, {} of them served, {} passed on, {} frames dropped",
            count(&relay["connected"]),
            count(&relay["served"]),
            bytes(count(&relay["bytes"])),
            count(&relay["dropped"]),
        ));
    }
    lines
}

/// What reading again what is stored came to.
fn scrubbed(scrub: &Value, lost: u64) -> String {
    let date = |of: &str| scrub[of].as_u64().map(time::minute);
    let (Some(since), Some(last)) = (date("since_ms"), date("last_ms")) else {
        return "        read again: nothing yet".to_owned();
    };
    let rotten = match (count(&scrub["rotten"]), date("rotten_ms")) {
        (0, _) | (_, None) => "none rotten".to_owned(),
        (rotten, Some(when)) => format!("{rotten} rotten, the last found at {when}; {lost} are lost now"),
    };
    format!(
        "        read again: {} shards, {}, since {since}, all of them {} times, the last at {last}: {rotten}",
        count(&scrub["shards"]),
        bytes(count(&scrub["bytes"])),
        count(&scrub["passes"]),
    )
}

fn caps(caps: &Value) -> Vec<String> {
    if !caps.is_object() {
        return Vec::new();
    }
    let active: Vec<&str> = caps["active"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut lines = vec![format!(
        "        caps: {}; carried {} today, {} this month",
        if active.is_empty() { "none".to_owned() } else { active.join(", ") },
        bytes(count(&caps["carried_today_bytes"])),
        bytes(count(&caps["carried_this_month_bytes"])),
    )];
    if let Some(why) = caps["rests"].as_str() {
        lines.push(format!("        rests: {why}; it proves all the same"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_s_figures_its_caps_and_its_relays_are_told() {
        let node = json!({
            "node": "ab".repeat(32),
            "provider": {
                "pledge_bytes": 4u64 << 30, "used_bytes": 1 << 20, "held_bytes": 1 << 19, "free_bytes": 3u64 << 30,
                "reserve_bytes": 128 << 20, "disk_bytes": 9u64 << 30, "disk_free_bytes": 5u64 << 30,
                "keep_free_bytes": 1 << 30, "deals": 2, "prove": "on mains", "lost_shards": 1,
                "scrub": {
                    "shards": 70, "bytes": 1 << 20, "passes": 3, "rotten": 2, "since_ms": 0, "last_ms": 60_000,
                    "rotten_ms": 120_000,
                },
                "caps": {
                    "active": ["stops on battery"], "rests": "it is not charging", "carried_today_bytes": 2048,
                    "carried_this_month_bytes": 4096,
                },
            },
            "relays": [{ "address": "203.0.113.9:4435", "connected": false }],
            "reached": { "connected": false, "since_s": 1 },
            "relay": { "connected": 3, "served": 2, "bytes": 1 << 20, "dropped": 7 },
        });
        let told = lines(Path::new("/srv/node"), &node).join("\n");
        for word in [
            "offers 4.0 GiB, uses 1.0 MiB for 512.0 KiB held in 2 deals, 3.0 GiB free",
            "128.0 MiB stay in reserve",
            "disk 9.0 GiB, 5.0 GiB free, of which 1.0 GiB stay free",
            "caps: stops on battery; carried 2.0 KiB today, 4.0 KiB this month",
            "rests: it is not charging",
            "proves on mains",
            "read again: 70 shards, 1.0 MiB, since 1970-01-01 00:00 UTC, all of them 3 times, the last at 1970-01-01 00:01 UTC",
            "2 rotten, the last found at 1970-01-01 00:02 UTC; 1 are lost now",
            "since 1970-01-01 00:00:01.000 UTC, of 203.0.113.9:4435",
            "3 connected, 2 of them served, 1.0 MiB passed on, 7 frames dropped",
        ] {
            assert!(told.contains(word), "{word} is not in\n{told}");
        }
    }

    #[test]
    fn a_host_tells_its_leases_or_why_it_earns_nothing() {
        let replica = json!({
            "lease": 7, "state": "starting", "words": "its process ended", "requests": 3, "failures": 1, "starts": 2,
            "rate_wei": "1000000000000000000", "missing": "no landlock: too old a kernel",
        });
        let node = json!({
            "node": "ab".repeat(32),
            "compute": {
                "capacity": { "cpu_milli": 1500, "memory_bytes": 1 << 30 }, "free": { "cpu_milli": 500, "memory_bytes": 0 },
                "earned_wei": "0", "idle": "orders take the cheapest first", "replicas": [replica],
            },
        });
        let told = lines(Path::new("/srv/node"), &node).join("\n");
        for word in [
            "computes with 1.500 CPU and 1.0 GiB of memory, 1 leases",
            "0.500 CPU",
            "lease 7: starting (its process ended), 3 requests, 1 failed, started 2 times",
            "not confined by: no landlock",
            "not earning because orders take the cheapest first",
        ] {
            assert!(told.contains(word), "{word} is not in\n{told}");
        }
        assert!(!told.contains("offers nothing"));
    }

    #[test]
    fn a_node_without_relays_lacks_none() {
        assert_eq!(unreached(&json!({ "node": "a" })), None);
        let node = json!({
            "node": "a", "relays": [{ "address": "203.0.113.9:1", "connected": true }],
            "reached": { "connected": true, "since_s": 5 },
        });
        assert_eq!(unreached(&node), None);
        assert!(lines(Path::new("n"), &node).join("\n").contains("through the relay 203.0.113.9:1"));
    }
}
