//! Show what rules choose and when, on keys with several versions.

use super::*;
use std::time::Duration;

const SECOND: u64 = 1000;

fn short() -> Calendar {
    Calendar::of_day(Duration::from_secs(10))
}

fn parse(xml: &str) -> S3Result<Rules> {
    let text = format!("<LifecycleConfiguration>{xml}</LifecycleConfiguration>");
    let read = BucketLifecycleConfiguration::deserialize(&mut Deserializer::new(text.as_bytes())).expect(xml);
    Rules::check(read.rules)
}

fn rules(xml: &str) -> Rules {
    parse(xml).unwrap_or_else(|error| panic!("{xml}: {error}"))
}

fn code(xml: &str) -> String {
    parse(xml).expect_err(xml).code().as_str().to_owned()
}

fn rule(inside: &str) -> String {
    format!("<Rule><Status>Enabled</Status>{inside}</Rule>")
}

fn version(number: u8, modified_ms: u64) -> Entry {
    Entry { version: Version::Id([number; 16]), modified_ms, ..Entry::default() }
}

fn marker(number: u8, modified_ms: u64) -> Entry {
    Entry { marker: true, ..version(number, modified_ms) }
}

#[test]
fn what_s3_refuses_is_refused_in_its_words() {
    let days = |days: &str| rule(&format!("<Prefix/><Expiration><Days>{days}</Days></Expiration>"));
    assert_eq!(code(&days("0")), "InvalidArgument");
    assert_eq!(code(&days("-3")), "InvalidArgument");
    assert_eq!(code(&days("1").replace("Enabled", "enabled")), "MalformedXML");
    assert_eq!(code(&rule("<Prefix/>")), "InvalidRequest");
    assert_eq!(code(&rule("<Expiration><Days>1</Days></Expiration>")), "MalformedXML");
    assert_eq!(code(&rule("<Prefix/><Filter/><Expiration><Days>1</Days></Expiration>")), "MalformedXML");
    let both = "<Expiration><Days>1</Days><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";
    assert_eq!(code(&rule(&format!("<Prefix/>{both}"))), "MalformedXML");
    let noon = "<Prefix/><Expiration><Date>2030-01-01T12:00:00Z</Date></Expiration>";
    assert_eq!(code(&rule(noon)), "InvalidArgument");
    let id = |id: &str| days("1").replace("<Prefix/>", &format!("<ID>{id}</ID><Prefix/>"));
    assert_eq!(code(&id(&"a".repeat(256))), "InvalidArgument");
    assert_eq!(code(&format!("{}{}", id("a"), id("a"))), "InvalidArgument");
    let moves = "<Prefix/><Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>";
    assert_eq!(code(&rule(moves)), "NotImplemented");
    let tag = "<Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>";
    let aborts =
        "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
    assert_eq!(code(&rule(&format!("{tag}{aborts}"))), "InvalidRequest");
    assert_eq!(code(&days("1").repeat(1001)), "MalformedXML");
}

#[test]
fn a_document_says_what_was_accepted_and_every_rule_has_a_name() {
    let twice = rule("<Prefix>a</Prefix><Expiration><Days>3</Days></Expiration>").repeat(2);
    let named = rule(
        "<ID>rule-1</ID><Filter/><NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays></NoncurrentVersionExpiration>",
    );
    let rules = rules(&format!("{twice}{named}"));
    assert_eq!(Rules::read(&rules.document().unwrap()).unwrap(), rules);
    let ids: BTreeSet<_> = rules.0.iter().map(|rule| rule.id.clone().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    let long = format!("<ID>{}</ID>", "x".repeat(200));
    let many: String = (0..100)
        .map(|at| {
            rule(&format!("{}<Prefix/><Expiration><Days>1</Days></Expiration>", long.replacen('x', &at.to_string(), 1)))
        })
        .collect();
    assert_eq!(parse(&many).unwrap().document().unwrap_err().code().as_str(), "InvalidRequest");
}

#[test]
fn the_newest_expires_by_the_first_rule_that_chooses_it() {
    let rules = rules(&format!(
        "{}{}{}",
        rule("<ID>five</ID><Prefix>logs/</Prefix><Expiration><Days>5</Days></Expiration>"),
        rule("<ID>two</ID><Filter><Prefix>logs/old/</Prefix></Filter><Expiration><Days>2</Days></Expiration>"),
        rule("<ID>off</ID><Prefix/><Expiration><Days>1</Days></Expiration>").replace("Enabled", "Disabled"),
    ));
    let entry = version(1, 5 * SECOND);
    assert_eq!(rules.expires("logs/a", &entry, &short()), Some((55 * SECOND, "five")));
    assert_eq!(rules.expires("logs/old/a", &entry, &short()), Some((25 * SECOND, "two")));
    assert_eq!(rules.expires("other", &entry, &short()), None);
    let due = |now| rules.due("logs/old/a", std::slice::from_ref(&entry), now, &short());
    assert_eq!((due(25 * SECOND - 1), due(25 * SECOND)), (vec![], vec![Act::Expire]));
}

#[test]
fn conditions_side_by_side_must_all_hold() {
    let filter = "<Filter><Prefix>days</Prefix><Tag><Key>tom</Key><Value>sawyer</Value></Tag><And><Prefix>days1</Prefix>\
                  <Tag><Key>huck</Key><Value>finn</Value></Tag></And></Filter>";
    let rules = rules(&rule(&format!("{filter}<Expiration><Date>2017-09-27T00:00:00Z</Date></Expiration>")));
    let tagged = |tags: &[(&str, &str)]| Entry {
        tags: tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        ..version(1, 0)
    };
    let both = tagged(&[("tom", "sawyer"), ("huck", "finn")]);
    assert!(rules.expires("days1/x", &both, &short()).is_some());
    assert_eq!(rules.expires("days2/x", &both, &short()), None);
    assert_eq!(rules.expires("days1/x", &tagged(&[("tom", "sawyer")]), &short()), None);
}

#[test]
fn old_versions_go_by_when_they_were_replaced_and_the_newest_are_kept() {
    let noncurrent = "<NoncurrentVersionExpiration><NewerNoncurrentVersions>1</NewerNoncurrentVersions>\
                      <NoncurrentDays>2</NoncurrentDays></NoncurrentVersionExpiration>";
    let rules = rules(&rule(&format!("<Filter/>{noncurrent}")));
    let versions = [version(4, 90 * SECOND), version(3, 30 * SECOND), version(2, 20 * SECOND), version(1, 10 * SECOND)];
    assert_eq!(rules.due("k", &versions, 39 * SECOND, &short()), []);
    assert_eq!(rules.due("k", &versions, 45 * SECOND, &short()), [Act::Remove(Version::Id([1; 16]))]);
    let both = [Act::Remove(Version::Id([2; 16])), Act::Remove(Version::Id([1; 16]))];
    assert_eq!(rules.due("k", &versions, 900 * SECOND, &short()), both);
}

#[test]
fn a_marker_goes_once_it_hides_nothing() {
    let asked =
        rules(&rule("<Prefix/><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"));
    let alone = [marker(2, 10 * SECOND)];
    let gone = [Act::Remove(Version::Id([2; 16]))];
    assert_eq!(asked.due("k", &alone, 10 * SECOND, &short()), gone);
    assert_eq!(asked.due("k", &[marker(2, 10), version(1, 5)], 900 * SECOND, &short()), []);
    let by_days = rules(&rule("<Prefix/><Expiration><Days>5</Days></Expiration>"));
    assert_eq!(by_days.due("k", &alone, 59 * SECOND, &short()), []);
    assert_eq!(by_days.due("k", &alone, 60 * SECOND, &short()), gone);
}

#[test]
fn uploads_are_aborted_by_prefix() {
    let aborts =
        "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
    let rules = rules(&rule(&format!("<Prefix>a/</Prefix>{aborts}")));
    assert!(rules.aborts("a/x", 0, 20 * SECOND, &short()));
    assert!(!rules.aborts("a/x", 0, 19 * SECOND, &short()));
    assert!(!rules.aborts("b/x", 0, 900 * SECOND, &short()));
}
