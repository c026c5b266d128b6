//! Read how this machine is powered, where Linux tells it.
//!
//! `/sys/class/power_supply` has a folder for each supply: `type` (`Mains`, `USB`, `Wireless`, `Battery`, …), `online` of
//! what charges, `status` and `capacity` of batteries, and `scope`, which is `Device` for those of mice and headsets.

use super::limits::Power;
use std::path::Path;

/// Where Linux keeps it.
pub const SUPPLIES: &str = "/sys/class/power_supply";
/// More than any machine has.
const SUPPLIES_MAX: usize = 64;

/// How the machine is powered by what is in `folder`; `None` where there is no such folder, as on other systems. A machine
/// without a battery is on mains.
pub fn read(folder: &Path) -> Option<Power> {
    let (mut supplies, mut online, mut discharging, mut levels) = (0, 0, 0, Vec::new());
    for entry in std::fs::read_dir(folder).ok()?.flatten().take(SUPPLIES_MAX) {
        let word = |name: &str| {
            let text = std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            text.trim().to_owned()
        };
        if word("scope") == "Device" {
            continue;
        }
        match word("type").as_str() {
            "Battery" => {
                discharging += usize::from(word("status") == "Discharging");
                levels.extend(word("capacity").parse::<u8>().ok().map(|percent| percent.min(100)));
            }
            "Mains" | "USB" | "Wireless" => {
                supplies += 1;
                // 1 fixed, 2 programmable.
                online += usize::from(!matches!(word("online").as_str(), "" | "0"));
            }
            _ => {}
        }
    }
    // The emptiest counts: that one is what ends first.
    let battery_percent = levels.into_iter().min().unwrap_or(100);
    // A battery that discharges beside a supply that is there has a weak one; without any it carries the machine.
    let charging = online > 0 || discharging == 0 && (supplies == 0 || battery_percent == 100);
    Some(Power { charging, battery_percent })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as Linux has it: each supply with its files.
    fn machine(name: &str, supplies: &[(&str, &[(&str, &str)])]) -> Option<Power> {
        let folder = std::env::temp_dir().join(format!("hodei-power-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (supply, files) in supplies {
            std::fs::create_dir_all(folder.join(supply)).unwrap();
            for (file, text) in *files {
                std::fs::write(folder.join(supply).join(file), format!("{text}\n")).unwrap();
            }
        }
        let power = read(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        power
    }

    fn power(charging: bool, battery_percent: u8) -> Option<Power> {
        Some(Power { charging, battery_percent })
    }

    #[test]
    fn a_machine_s_power_is_what_its_supplies_say() {
        let battery = |status, level| [("type", "Battery"), ("status", status), ("capacity", level)];
        let mains = |online| [("type", "Mains"), ("online", online)];
        assert_eq!(machine("server", &[]), power(true, 100));
        assert_eq!(machine("plugged", &[("AC", &mains("1")), ("BAT0", &battery("Charging", "41"))]), power(true, 41));
        assert_eq!(machine("away", &[("AC", &mains("0")), ("BAT0", &battery("Discharging", "41"))]), power(false, 41));
        assert_eq!(machine("alone", &[("BAT0", &battery("Discharging", "7"))]), power(false, 7));
        assert_eq!(
            machine("two", &[("BAT0", &battery("Discharging", "90")), ("BAT1", &battery("Unknown", "12"))]),
            power(false, 12)
        );
        let mouse = [("type", "Battery"), ("scope", "Device"), ("status", "Discharging"), ("capacity", "3")];
        assert_eq!(machine("mouse", &[("AC", &mains("1")), ("hid-mouse", &mouse)]), power(true, 100));
        assert_eq!(read(Path::new("/no/such/folder")), None);
    }
}
