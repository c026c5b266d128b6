//! Try policies on requests.

use super::*;
use serde_json::json;

fn user(id: &str, tenant: &str) -> Principal {
    Principal { id: id.into(), name: format!("{id}-name"), email: String::new(), tenant: tenant.into(), quota: None }
}

fn facts(pairs: &[(&str, &str)]) -> Facts {
    let mut facts = Facts::default();
    pairs.iter().for_each(|(key, value)| facts.put(key, *value));
    facts
}

fn ask(policy: &Policy, who: Option<&Principal>, action: &str, key: Option<&str>, pairs: &[(&str, &str)]) -> Verdict {
    policy.judge(&Request { principal: who, action, bucket: "b", key, facts: &facts(pairs) })
}

fn statement(extra: Value) -> Value {
    let mut one =
        json!({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"});
    for (name, value) in extra.as_object().unwrap() {
        if value.is_null() {
            one.as_object_mut().unwrap().remove(name);
        } else {
            one[name] = value.clone();
        }
    }
    one
}

fn policy(statements: &[Value]) -> Result<Policy, PolicyError> {
    Policy::parse(&json!({"Version": "2012-10-17", "Statement": statements}).to_string(), "b")
}

fn with(extra: Value) -> Policy {
    policy(&[statement(extra)]).unwrap()
}

#[test]
fn denial_outweighs_and_silence_is_neither() {
    let both =
        policy(&[statement(json!({})), statement(json!({"Effect": "Deny", "Resource": "arn:aws:s3:::b/secret/*"}))])
            .unwrap();
    assert_eq!(ask(&both, None, "s3:GetObject", Some("k"), &[]), Verdict::Allow);
    assert_eq!(ask(&both, None, "s3:GetObject", Some("secret/k"), &[]), Verdict::Deny);
    assert_eq!(ask(&both, None, "s3:PutObject", Some("k"), &[]), Verdict::Silent);
    assert_eq!(ask(&both, None, "s3:GetObject", None, &[]), Verdict::Silent, "the bucket is none of its objects");
}

#[test]
fn principals_are_named_in_several_ways() {
    let (anna, ben) = (user("anna", "acme"), user("ben", ""));
    let allows = |principal: Value, who: Option<&Principal>| {
        ask(&with(json!({"Principal": principal})), who, "s3:GetObject", Some("k"), &[]) == Verdict::Allow
    };
    for name in [
        "*",
        "anna",
        "anna-name",
        "acme",
        "arn:aws:iam::acme:root",
        "arn:aws:iam::acme:user/anna",
        "arn:aws:iam::acme:user/path/anna",
    ] {
        assert!(allows(json!({"AWS": name}), Some(&anna)), "{name}");
        assert_eq!(allows(json!({"AWS": name}), Some(&ben)), name == "*", "{name}");
        assert_eq!(allows(json!({"AWS": name}), None), name == "*", "{name}");
    }
    assert!(allows(json!({"CanonicalUser": "ben"}), Some(&ben)));
    assert!(allows(json!({"AWS": ["x", "arn:aws:iam:::user/ben"]}), Some(&ben)));
    assert!(!allows(json!({"AWS": "arn:aws:iam::other:user/anna"}), Some(&anna)));
    let but_ben = with(json!({"Effect": "Deny", "Principal": null, "NotPrincipal": {"AWS": "ben"}}));
    assert_eq!(ask(&but_ben, Some(&anna), "s3:GetObject", Some("k"), &[]), Verdict::Deny);
    assert_eq!(ask(&but_ben, Some(&ben), "s3:GetObject", Some("k"), &[]), Verdict::Silent);
}

#[test]
fn actions_and_resources_are_patterns() {
    for (action, asked, is) in [
        ("*", "s3:PutObject", true),
        ("s3:*", "s3:PutObject", true),
        ("s3:Get*", "s3:GetObjectAcl", true),
        ("S3:getobject", "s3:GetObject", true),
        ("s3:Get?bject", "s3:GetObject", true),
        ("s3:Get*", "s3:PutObject", false),
    ] {
        let verdict = ask(&with(json!({"Action": action})), None, asked, Some("k"), &[]);
        assert_eq!(verdict == Verdict::Allow, is, "{action} {asked}");
    }
    let but_get = with(json!({"Action": null, "NotAction": "s3:Get*"}));
    assert_eq!(ask(&but_get, None, "s3:PutObject", Some("k"), &[]), Verdict::Allow);
    assert_eq!(ask(&but_get, None, "s3:GetObject", Some("k"), &[]), Verdict::Silent);
    let everywhere = with(json!({"Resource": ["arn:aws:s3:::*", "arn:aws:s3:::*/*"], "Action": "s3:ListBucket"}));
    assert_eq!(ask(&everywhere, None, "s3:ListBucket", None, &[]), Verdict::Allow);
    let not_public = with(json!({"Resource": null, "NotResource": "arn:aws:s3:::b/private/*"}));
    assert_eq!(ask(&not_public, None, "s3:GetObject", Some("private/k"), &[]), Verdict::Silent);
}

#[test]
fn conditions_hold_as_aws_says() {
    let allows = |condition: Value, pairs: &[(&str, &str)]| {
        ask(&with(json!({"Condition": condition})), None, "s3:GetObject", Some("k"), pairs) == Verdict::Allow
    };
    let tag = ("s3:ExistingObjectTag/security", "public");
    for (condition, pairs, is) in [
        (json!({"StringEquals": {"s3:ExistingObjectTag/security": "public"}}), vec![tag], true),
        (json!({"StringEquals": {"s3:existingobjecttag/SECURITY": ["x", "public"]}}), vec![tag], true),
        (json!({"StringEquals": {"s3:ExistingObjectTag/security": "private"}}), vec![tag], false),
        (json!({"StringEquals": {"s3:ExistingObjectTag/security": "public"}}), vec![], false),
        (json!({"StringNotEquals": {"s3:x-amz-server-side-encryption": "AES256"}}), vec![], true),
        (
            json!({"StringNotEquals": {"s3:x-amz-server-side-encryption": "AES256"}}),
            vec![("s3:x-amz-server-side-encryption", "AES256")],
            false,
        ),
        (json!({"StringEqualsIgnoreCase": {"aws:Referer": "ABC"}}), vec![("aws:Referer", "abc")], true),
        (
            json!({"StringLike": {"s3:x-amz-copy-source": "b/public/*"}}),
            vec![("s3:x-amz-copy-source", "b/public/foo")],
            true,
        ),
        (json!({"StringLike": {"s3:prefix": "public/*"}}), vec![("s3:prefix", "private/x")], false),
        (json!({"StringNotLike": {"aws:Referer": "http://a/*"}}), vec![("aws:Referer", "http://a/x")], false),
        (json!({"StringLikeIfExists": {"aws:Referer": "http://a/*"}}), vec![], true),
        (json!({"StringLikeIfExists": {"aws:Referer": "http://a/*"}}), vec![("aws:Referer", "http://b/")], false),
        (json!({"Null": {"s3:x-amz-server-side-encryption": "true"}}), vec![], true),
        (
            json!({"Null": {"s3:x-amz-server-side-encryption": true}}),
            vec![("s3:x-amz-server-side-encryption", "AES256")],
            false,
        ),
        (
            json!({"Null": {"s3:x-amz-server-side-encryption": "false"}}),
            vec![("s3:x-amz-server-side-encryption", "AES256")],
            true,
        ),
        (json!({"NumericLessThanEquals": {"s3:max-keys": "10"}}), vec![("s3:max-keys", "10")], true),
        (json!({"NumericLessThanEquals": {"s3:max-keys": 10}}), vec![("s3:max-keys", "11")], false),
        (json!({"NumericLessThan": {"s3:max-keys": "10"}}), vec![("s3:max-keys", "ten")], false),
        (json!({"NumericNotEquals": {"s3:max-keys": "10"}}), vec![("s3:max-keys", "10")], false),
        (
            json!({"DateGreaterThan": {"aws:CurrentTime": "2026-01-31T00:00:00Z"}}),
            vec![("aws:CurrentTime", "2026-01-31T00:00:01Z")],
            true,
        ),
        (
            json!({"DateLessThan": {"aws:EpochTime": "2026-01-31T00:00:00Z"}}),
            vec![("aws:EpochTime", "1769817600")],
            false,
        ),
        (json!({"Bool": {"aws:SecureTransport": false}}), vec![("aws:SecureTransport", "false")], true),
        (json!({"Bool": {"aws:SecureTransport": "true"}}), vec![("aws:SecureTransport", "false")], false),
        (json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), vec![("aws:SourceIp", "10.1.2.3")], true),
        (json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), vec![("aws:SourceIp", "::ffff:10.1.2.3")], true),
        (json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), vec![("aws:SourceIp", "11.1.2.3")], false),
        (json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}), vec![("aws:SourceIp", "11.1.2.3")], true),
        (json!({"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}), vec![("aws:SourceIp", "2001:db8::1")], true),
        (
            json!({"NotIpAddress": {"aws:SourceIp": ["10.0.0.0/8", "11.1.2.3"]}}),
            vec![("aws:SourceIp", "11.1.2.3")],
            false,
        ),
        (
            json!({"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["a", "b"]}}),
            vec![("s3:RequestObjectTagKeys", "a"), ("s3:RequestObjectTagKeys", "c")],
            false,
        ),
        (
            json!({"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": ["a", "b"]}}),
            vec![("s3:RequestObjectTagKeys", "a"), ("s3:RequestObjectTagKeys", "c")],
            true,
        ),
        (json!({"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["a"]}}), vec![], true),
        (json!({"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": ["a"]}}), vec![], false),
        (
            json!({"StringEquals": {"s3:prefix": "x"}, "Bool": {"aws:SecureTransport": "true"}}),
            vec![("s3:prefix", "x")],
            false,
        ),
    ] {
        assert_eq!(allows(condition.clone(), &pairs), is, "{condition} {pairs:?}");
    }
}

#[test]
fn variables_stand_for_themselves_alone() {
    let home = with(json!({"Resource": "arn:aws:s3:::b/home/${aws:username}/*"}));
    let named = |name: &str, key: &str| ask(&home, None, "s3:GetObject", Some(key), &[("aws:username", name)]);
    assert_eq!(named("anna", "home/anna/x"), Verdict::Allow);
    assert_eq!(named("*", "home/anna/x"), Verdict::Silent, "a name with a star is no pattern");
    assert_eq!(ask(&home, None, "s3:GetObject", Some("home//x"), &[]), Verdict::Silent, "nobody has no home");
    let old = Policy::parse(
        &json!({"Statement": [statement(json!({"Resource": "arn:aws:s3:::b/${aws:username}"}))]}).to_string(),
        "b",
    )
    .unwrap();
    assert_eq!(ask(&old, None, "s3:GetObject", Some("${aws:username}"), &[("aws:username", "anna")]), Verdict::Allow);
}

#[test]
fn public_is_what_everybody_may_from_anywhere() {
    assert!(with(json!({})).is_public());
    assert!(!with(json!({"Effect": "Deny"})).is_public());
    assert!(!with(json!({"Principal": {"AWS": "arn:aws:iam::acme:root"}})).is_public());
    let narrowed = |condition: Value| !with(json!({"Condition": condition})).is_public();
    assert!(narrowed(json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/32"}})));
    assert!(!narrowed(json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}})));
    assert!(!narrowed(json!({"StringEquals": {"aws:Referer": "x"}})), "anybody may say where he comes from");
    assert!(!narrowed(json!({"StringNotEquals": {"aws:userid": "x"}})));
}

#[test]
fn what_is_not_understood_is_refused() {
    for extra in [
        json!({"Effect": "allow"}),
        json!({"Effect": null}),
        json!({"Principal": null}),
        json!({"Principal": "anna"}),
        json!({"Principal": {"Service": "x"}}),
        json!({"Principal": {"AWS": []}}),
        json!({"Principal": {"AWS": "arn:aws:iam::acme:role/x"}}),
        json!({"Principal": null, "NotPrincipal": {"AWS": "x"}}),
        json!({"NotPrincipal": {"AWS": "x"}}),
        json!({"Action": "ec2:Run"}),
        json!({"Action": null}),
        json!({"Action": {"x": 1}}),
        json!({"NotAction": "s3:GetObject"}),
        json!({"Resource": "arn:aws:s3:::other/*"}),
        json!({"Resource": "b/*"}),
        json!({"Resource": null}),
        json!({"Condition": {"StringAlike": {"aws:Referer": "x"}}}),
        json!({"Condition": {"StringEquals": {"Referer": "x"}}}),
        json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}}),
        json!({"Condition": {"NumericEquals": {"s3:max-keys": "ten"}}}),
        json!({"Condition": {"DateEquals": {"aws:CurrentTime": "2026-13-01"}}}),
        json!({"Condition": {"NullIfExists": {"aws:Referer": "true"}}}),
        json!({"Sibling": "x"}),
    ] {
        assert!(policy(&[statement(extra.clone())]).is_err(), "{extra}");
    }
    for text in ["", "[]", "{}", "null", r#"{"Statement":[]}"#, r#"{"Version":"2020-01-01","Statement":[{}]}"#] {
        assert!(Policy::parse(text, "b").is_err(), "{text}");
    }
}

#[test]
fn what_would_never_be_met_is_not_set() {
    let check = |extra: Value| {
        with(json!({"Effect": "Deny"})).check(|_| true).and_then(|()| with(extra).check(|name| name == "anna"))
    };
    for (extra, named) in [
        (json!({"Action": "s3:Nope"}), "s3:Nope"),
        (json!({"Effect": "Deny", "Action": ["s3:PutObject", "s3:DeletObject"]}), "s3:DeletObject"),
        (json!({"Action": "s3:Xyz*"}), "s3:Xyz*"),
        (json!({"Condition": {"StringEquals": {"aws:SourceIpp": "x"}}}), "aws:sourceipp"),
        (json!({"Condition": {"Null": {"s3:x-amz-server-side-encrypton": "true"}}}), "s3:x-amz-server-side-encrypton"),
        (json!({"Principal": {"AWS": "ana"}}), "ana"),
        (json!({"Principal": {"AWS": ["anna", "arn:aws:iam::acme:user/ben"]}}), "ben"),
    ] {
        let error = check(extra.clone()).unwrap_err().to_string();
        assert!(error.contains(named), "{extra}: {error}");
    }
    for extra in [
        json!({}),
        json!({"Principal": {"AWS": ["anna", "arn:aws:iam::acme:root"]}, "Action": ["s3:Get*", "s3:GetObjectTorrent"]}),
        json!({"Condition": {"StringLike": {"s3:RequestObjectTag/a": "x", "aws:SourceVpc": "y"}}}),
    ] {
        assert_eq!(check(extra.clone()), Ok(()), "{extra}");
    }
}

#[test]
fn hostile_policies_are_bounded() {
    let long = " ".repeat(POLICY_BYTES_MAX + 1);
    assert_eq!(Policy::parse(&long, "b").unwrap_err(), PolicyError::Long(POLICY_BYTES_MAX + 1));
    let deep = "[".repeat(POLICY_BYTES_MAX);
    assert!(matches!(Policy::parse(&deep, "b").unwrap_err(), PolicyError::Json(_)));
    let begun = std::time::Instant::now();
    let wide = with(json!({"Resource": format!("arn:aws:s3:::b/{}b", "*a".repeat(9000))}));
    assert_eq!(ask(&wide, None, "s3:GetObject", Some(&"a".repeat(1024)), &[]), Verdict::Silent);
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}
