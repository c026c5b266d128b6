//! Judge what is set along with an object: its access list, its tags and its lock.
//!
//! Who may put an object may not for that alone set these: each is asked for as the operation that sets it by itself,
//! and a denial of one refuses the put.

use super::{
    access::{Access, denied},
    acl::Permission,
    action::Action,
    decide::{Guard, Ownership, Question},
    facts,
    fault::fault,
};
use hodei_sdk::Entry;
use hyper::HeaderMap;
use s3s::S3Result;

/// What headers of a put, a copy or an upload's begin ask for besides.
pub(super) fn of(headers: &HeaderMap) -> Vec<Action> {
    // Said and left empty is not said.
    let has = |name: &str| headers.get(name).is_some_and(|value| !value.is_empty());
    let mut extras = Vec::new();
    if headers.keys().any(|name| name == "x-amz-acl" || name.as_str().starts_with("x-amz-grant-")) {
        extras.push(Action::of("PutObjectAcl", false));
    }
    if has("x-amz-tagging") && !facts::copies_tags(headers) {
        extras.push(Action::of("PutObjectTagging", false));
    }
    if has("x-amz-object-lock-mode") || has("x-amz-object-lock-retain-until-date") {
        extras.push(Action::of("PutObjectRetention", false));
    }
    if has("x-amz-object-lock-legal-hold") {
        extras.push(Action::of("PutObjectLegalHold", false));
    }
    extras
}

impl Guard {
    /// Whether one who may put the object may set this of it. Where no rule says, the list is his whose object it will
    /// be; list and tags are also theirs whom the bucket's list lets write; a lock binds the bucket's owner, and is his.
    pub(super) fn allows_extra(&self, question: &Question<'_>) -> bool {
        if let Some(ruled) = self.ruled(question) {
            return ruled;
        }
        let caller = question.caller;
        let principal = caller.principal.as_deref();
        let may_write = || {
            self.ownership != Ownership::Enforced
                && self.acl.as_ref().is_some_and(|acl| acl.allows(Permission::Write, principal, self.block.acls))
        };
        self.is_owner(caller)
            || match question.action.name {
                // What nobody in particular puts is the bucket's owner's.
                "s3:PutObjectAcl" => principal.is_some() || may_write(),
                "s3:PutObjectTagging" => may_write(),
                _ => false,
            }
    }

    /// Only a rule could refuse its owner something, and there is none.
    fn is_plainly(&self, question: &Question<'_>) -> bool {
        self.policy.is_none() && self.is_owner(question.caller)
    }
}

impl Access {
    /// Refuses a put one of whose extras is not allowed; `question` is that of the put.
    pub(super) async fn judge_extras(&self, guard: &Guard, question: &Question<'_>, extras: &[Action]) -> S3Result<()> {
        if extras.is_empty() {
            return Ok(());
        }
        let mut facts = question.facts.clone();
        // Of what is there now, as for the operations alone.
        if guard.asks_object(&question.action)
            && let Some(entry) = self.entry(question, None).await?
        {
            facts::existing(&mut facts, &entry.tags);
        }
        let may = |action: &Action| guard.allows_extra(&Question { action: *action, facts: &facts, ..*question });
        if extras.iter().all(may) { Ok(()) } else { Err(denied()) }
    }

    /// Refuses tags that a copy takes along, where its source has any: they are read there and set here.
    pub(super) async fn judge_copied(
        &self,
        (to, put): (&Guard, &Question<'_>),
        (from, read): (&Guard, &Question<'_>),
        version: Option<&str>,
    ) -> S3Result<()> {
        if to.is_plainly(put) && from.is_plainly(read) {
            return Ok(());
        }
        let Some(entry) = self.entry(read, version).await?.filter(|entry| !entry.tags.is_empty()) else {
            return Ok(());
        };
        let action = Action::of("GetObjectTagging", version.is_some());
        self.judge(from, Question { action, ..*read }, version).await?;
        let mut facts = put.facts.clone();
        facts::tags(&mut facts, entry.tags.iter().map(|(tag, value)| (tag.as_str(), value.as_str())));
        let put = Question { facts: &facts, ..*put };
        self.judge_extras(to, &put, &[Action::of("PutObjectTagging", false)]).await
    }

    /// What a question's key names, if there is something.
    pub(super) async fn entry(&self, question: &Question<'_>, version: Option<&str>) -> S3Result<Option<Entry>> {
        let Some(key) = question.key else { return Ok(None) };
        // What is no version names nothing: the operation says so.
        let Ok(version) = version.map(str::parse).transpose() else { return Ok(None) };
        let entry = self.cloud.look(question.bucket, key, version).await.map_err(fault)?;
        Ok(entry.filter(|entry| !entry.marker))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            acl::{Acl, Canned},
            decide::tests::{caller, guard, policy},
            policy::Facts,
            principal::{Caller, Scope},
        },
        *,
    };
    use hyper::header::{HeaderName, HeaderValue};

    const LIST: &str = "PutObjectAcl";
    const TAGS: &str = "PutObjectTagging";
    const RETENTION: &str = "PutObjectRetention";
    const HOLD: &str = "PutObjectLegalHold";

    /// The extras of a put that this one may set.
    fn may(guard: &Guard, caller: &Caller) -> Vec<&'static str> {
        let facts = Facts::default();
        let mut all = vec![LIST, TAGS, RETENTION, HOLD];
        all.retain(|operation| {
            let action = Action::of(operation, false);
            guard.allows_extra(&Question { caller, action, bucket: "b", key: Some("k"), facts: &facts })
        });
        all
    }

    fn names(headers: &[(&'static str, &'static str)]) -> Vec<&'static str> {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        of(&headers.collect()).into_iter().map(|action| action.name).collect()
    }

    #[test]
    fn headers_ask_for_what_sets_the_same_alone() {
        assert!(names(&[("content-type", "text/plain"), ("x-amz-meta-x-amz-acl", "private")]).is_empty());
        for (header, action) in [
            ("x-amz-acl", "s3:PutObjectAcl"),
            ("x-amz-grant-read", "s3:PutObjectAcl"),
            ("x-amz-grant-full-control", "s3:PutObjectAcl"),
            ("x-amz-tagging", "s3:PutObjectTagging"),
            ("x-amz-object-lock-mode", "s3:PutObjectRetention"),
            ("x-amz-object-lock-retain-until-date", "s3:PutObjectRetention"),
            ("x-amz-object-lock-legal-hold", "s3:PutObjectLegalHold"),
        ] {
            assert_eq!(names(&[(header, "x")]), [action], "{header}");
        }
        assert!(names(&[("x-amz-tagging", "")]).is_empty(), "no tags");
        let copy = [("x-amz-tagging", "a=b"), ("x-amz-copy-source", "/b/k")];
        assert!(names(&copy).is_empty(), "those of the source are taken, and judged as they are");
        assert_eq!(names(&[copy[0], copy[1], ("x-amz-tagging-directive", "REPLACE")]), ["s3:PutObjectTagging"]);
    }

    #[test]
    fn a_put_is_no_leave_to_lock_or_to_tag() {
        let (anna, ben, nobody) = (caller("anna"), caller("ben"), Caller::default());
        let open = Guard { policy: policy("Allow", "s3:PutObject"), ..guard() };
        assert_eq!(may(&open, &anna), [LIST, TAGS, RETENTION, HOLD]);
        assert_eq!(may(&open, &ben), [LIST], "his object's list is his");
        assert!(may(&open, &nobody).is_empty(), "what nobody puts is the owner's");
        for action in [RETENTION, HOLD, TAGS, LIST] {
            let named = Guard { policy: policy("Allow", &format!("s3:{action}")), ..guard() };
            assert_eq!(may(&named, &nobody), [action]);
        }
        let writers = Guard { acl: Some(Acl::canned(Canned::PublicReadWrite, "anna", "anna")), ..guard() };
        assert_eq!(may(&writers, &nobody), [LIST, TAGS]);
        assert_eq!(may(&writers, &ben), [LIST, TAGS]);
        let enforced = Guard { ownership: Ownership::Enforced, ..writers };
        assert!(may(&enforced, &nobody).is_empty());
    }

    #[test]
    fn a_denial_of_an_extra_holds_for_everybody() {
        for action in [LIST, TAGS, RETENTION, HOLD] {
            let denying = Guard {
                policy: policy("Deny", &format!("s3:{action}")),
                acl: Some(Acl::canned(Canned::PublicReadWrite, "anna", "anna")),
                ..guard()
            };
            for caller in [caller("anna"), caller("ben"), Caller::default()] {
                assert!(!may(&denying, &caller).contains(&action), "{action}");
            }
        }
        let reader = Caller { scope: Scope { read_only: true, within: vec![] }, ..caller("anna") };
        let elsewhere = Caller { scope: Scope { read_only: false, within: vec!["b/in/".into()] }, ..caller("anna") };
        assert!(may(&guard(), &reader).is_empty() && may(&guard(), &elsewhere).is_empty());
    }
}
