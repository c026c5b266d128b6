//! Decide who may do what.
//!
//! Upon a request, in this order: the key's scope; a denial of the bucket's policy; its permission; being the
//! owner; an access list. What nothing permits is refused. All is pure: whoever asks brings what is known.

use super::{
    acl::Acl,
    action::{Action, Target},
    policy::{Facts, Policy, Request, Verdict},
    principal::Caller,
};

/// How a bucket guards itself against being open to everybody; all off where it has no such document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) new_acls: bool,
    pub(super) acls: bool,
    pub(super) new_policies: bool,
    pub(super) policies: bool,
}

/// Whose an object is that somebody else puts into a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ownership {
    /// His who puts it.
    #[default]
    Writer,
    /// His, unless he gives it away.
    Preferred,
    /// The bucket's owner's; access lists mean nothing.
    Enforced,
}

/// What a bucket says about itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    pub(super) owner: String,
    pub(super) tenant: String,
    pub(super) policy: Option<Policy>,
    /// Nothing is the list everything has.
    pub(super) acl: Option<Acl>,
    pub(super) block: Block,
    pub(super) ownership: Ownership,
}

/// What is known of the object asked for; nothing of one that is not there.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Without one the bucket's owner.
    pub(super) owner: Option<String>,
    pub(super) acl: Option<Acl>,
}

/// What a put's headers say beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    pub(super) retention: bool,
    pub(super) hold: bool,
    /// An access list, of which `opens` says that it is for everybody.
    pub(super) acl: bool,
    pub(super) opens: bool,
    pub(super) tags: bool,
}

/// One question.
pub(super) struct Question<'a> {
    pub(super) caller: &'a Caller,
    pub(super) action: Action,
    pub(super) bucket: &'a str,
    pub(super) key: Option<&'a str>,
    pub(super) facts: &'a Facts,
}

impl Guard {
    pub(super) fn is_owner(&self, caller: &Caller) -> bool {
        caller.id() == Some(self.owner.as_str())
    }

    /// Whether the question is one an object's owner and access list have a say in.
    pub(super) fn asks_object(&self, action: &Action) -> bool {
        self.ownership != Ownership::Enforced && matches!(action.granted, Some((Target::Object, _)))
            || self.policy.as_ref().is_some_and(Policy::asks_tags) && action.target == Target::Object
    }

    pub(super) fn allows(&self, question: &Question<'_>, object: Option<&Known>) -> bool {
        let Question { caller, action, bucket, key, facts } = question;
        let listed = facts.get("s3:prefix").first().map(String::as_str);
        if !caller.scope.allows(action.reads, Some(bucket), *key, listed) {
            return false;
        }
        let principal = caller.principal.as_deref();
        let is_owner = self.is_owner(caller);
        if let Some(policy) = &self.policy {
            let request = Request { principal, action: action.name, bucket, key: *key, facts };
            match policy.judge(&request) {
                Verdict::Deny if !(is_owner && action.is_of_policy()) => return false,
                Verdict::Allow if self.keeps(policy, caller) && action.name.starts_with("s3:") => return true,
                _ => {}
            }
        }
        let (list, permission) = match action.granted {
            None => return is_owner,
            Some((Target::Object, permission)) if self.ownership != Ownership::Enforced => {
                let known = object.cloned().unwrap_or_default();
                let owner = known.owner.as_deref().unwrap_or(&self.owner);
                if caller.id() == Some(owner) {
                    return true;
                }
                (known.acl, permission)
            }
            Some(_) if is_owner => return true,
            Some((Target::Object, permission)) => (None, permission),
            Some((_, permission)) => (self.acl.clone(), permission),
        };
        self.ownership != Ownership::Enforced
            && list.is_some_and(|acl| acl.allows(permission, principal, self.block.acls))
    }

    /// Whether the policy refuses it outright.
    pub(super) fn denies(&self, question: &Question<'_>) -> bool {
        let Question { caller, action, bucket, key, facts } = question;
        let request =
            Request { principal: caller.principal.as_deref(), action: action.name, bucket, key: *key, facts };
        self.policy.as_ref().is_some_and(|policy| policy.judge(&request) == Verdict::Deny)
    }

    /// Whether what a put's headers say beside its bytes may be said: each is an operation of its own.
    pub(super) fn allows_beside(&self, question: &Question<'_>, beside: Beside) -> bool {
        let ask = |action| Question { action, ..*question };
        let ok = |is: bool, operation: &str, must: bool| {
            let action = Action::of(operation, false);
            // What a list of the bucket lets somebody put, it lets him open as well.
            let action = if operation == "PutObjectAcl" { action.as_put() } else { action };
            !is || if must { self.allows(&ask(action), None) } else { !self.denies(&ask(action)) }
        };
        ok(beside.retention, "PutObjectRetention", true)
            && ok(beside.hold, "PutObjectLegalHold", true)
            && ok(beside.opens, "PutObjectAcl", true)
            && ok(beside.acl, "PutObjectAcl", false)
            && ok(beside.tags, "PutObjectTagging", false)
    }

    /// Whether what a policy permits counts for this caller.
    fn keeps(&self, policy: &Policy, caller: &Caller) -> bool {
        let is_family = self.is_owner(caller)
            || caller
                .principal
                .as_ref()
                .is_some_and(|principal| !self.tenant.is_empty() && principal.tenant == self.tenant);
        !self.block.policies || is_family || !policy.is_public()
    }

    /// Whether the caller may learn that a key is not there.
    pub(super) fn may_list(&self, caller: &Caller, bucket: &str, key: &str, facts: &Facts) -> bool {
        let mut facts = facts.clone();
        facts.put("s3:prefix", key);
        let action = Action::of("ListObjectsV2", false);
        self.allows(&Question { caller, action, bucket, key: None, facts: &facts }, None)
    }

    /// Everybody may do something here.
    pub(super) fn is_public(&self) -> bool {
        let by_acl =
            !self.block.acls && self.ownership != Ownership::Enforced && self.acl.as_ref().is_some_and(Acl::is_public);
        let by_policy = !self.block.policies && self.policy.as_ref().is_some_and(Policy::is_public);
        by_acl || by_policy
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            acl::{Canned, Grantee, Permission},
            principal::{Principal, Scope},
        },
        *,
    };
    use std::sync::Arc;

    fn caller(id: &str) -> Caller {
        let principal =
            Principal { id: id.into(), name: id.into(), email: String::new(), tenant: String::new(), quota: None };
        Caller { principal: Some(Arc::new(principal)), scope: Scope::default() }
    }

    fn guard() -> Guard {
        Guard { owner: "anna".into(), ..Guard::default() }
    }

    fn may(guard: &Guard, caller: &Caller, operation: &str, object: Option<&Known>) -> bool {
        let action = Action::of(operation, false);
        let key = (action.target == Target::Object).then_some("k");
        guard.allows(&Question { caller, action, bucket: "b", key, facts: &Facts::default() }, object)
    }

    fn policy(effect: &str, action: &str) -> Option<Policy> {
        let text = format!(
            r#"{{"Statement":[{{"Effect":"{effect}","Principal":"*","Action":"{action}","Resource":["arn:aws:s3:::b","arn:aws:s3:::b/*"]}}]}}"#
        );
        Some(Policy::parse(&text, "b").unwrap())
    }

    fn known(owner: &str, acl: Option<Acl>) -> Known {
        Known { owner: Some(owner.into()), acl }
    }

    #[test]
    fn what_is_private_is_its_owners() {
        let (anna, ben, nobody) = (caller("anna"), caller("ben"), Caller::default());
        for operation in [
            "GetObject",
            "PutObject",
            "DeleteObject",
            "ListObjectsV2",
            "PutBucketPolicy",
            "DeleteBucket",
            "PutBucketAcl",
            "NeverHeardOf",
        ] {
            assert!(may(&guard(), &anna, operation, None), "{operation}");
            assert!(!may(&guard(), &ben, operation, None), "{operation}");
            assert!(!may(&guard(), &nobody, operation, None), "{operation}");
        }
    }

    #[test]
    fn lists_open_what_they_say_and_no_more() {
        let ben = caller("ben");
        let with = |permission| {
            let acl = Some(Acl { grants: vec![(Grantee::User("ben".into()), permission)] });
            Guard { acl, ..guard() }
        };
        for (permission, allowed) in [
            (Permission::Read, vec!["ListObjects", "HeadBucket"]),
            (Permission::Write, vec!["PutObject", "DeleteObject", "CreateMultipartUpload"]),
            (Permission::ReadAcp, vec!["GetBucketAcl"]),
            (Permission::WriteAcp, vec!["PutBucketAcl"]),
            (
                Permission::FullControl,
                vec![
                    "ListObjects",
                    "HeadBucket",
                    "PutObject",
                    "DeleteObject",
                    "CreateMultipartUpload",
                    "GetBucketAcl",
                    "PutBucketAcl",
                ],
            ),
        ] {
            for operation in [
                "ListObjects",
                "HeadBucket",
                "PutObject",
                "DeleteObject",
                "CreateMultipartUpload",
                "GetBucketAcl",
                "PutBucketAcl",
                "PutBucketPolicy",
                "GetObject",
                "DeleteBucket",
            ] {
                assert_eq!(
                    may(&with(permission), &ben, operation, None),
                    allowed.contains(&operation),
                    "{permission:?} {operation}"
                );
            }
        }
    }

    #[test]
    fn an_objects_list_is_the_objects() {
        let (anna, ben, nobody) = (caller("anna"), caller("ben"), Caller::default());
        let public = known("anna", Some(Acl::canned(Canned::PublicRead, "anna", "anna")));
        assert!(may(&guard(), &nobody, "GetObject", Some(&public)));
        assert!(!may(&guard(), &nobody, "GetObjectAcl", Some(&public)));
        let signed = known("anna", Some(Acl::canned(Canned::AuthenticatedRead, "anna", "anna")));
        assert!(may(&guard(), &ben, "GetObject", Some(&signed)) && !may(&guard(), &nobody, "GetObject", Some(&signed)));
        let bens = known("ben", None);
        assert!(may(&guard(), &ben, "GetObject", Some(&bens)));
        assert!(!may(&guard(), &anna, "GetObjectAcl", Some(&bens)), "the bucket's owner is not the object's");
        let enforced = Guard { ownership: Ownership::Enforced, ..guard() };
        assert!(may(&enforced, &anna, "GetObject", Some(&bens)) && !may(&enforced, &ben, "GetObject", Some(&bens)));
        assert!(!may(&enforced, &nobody, "GetObject", Some(&public)));
        let ignoring = Guard { block: Block { acls: true, ..Block::default() }, ..guard() };
        assert!(!may(&ignoring, &nobody, "GetObject", Some(&public)));
    }

    #[test]
    fn policies_come_before_owners_and_lists() {
        let (anna, ben, nobody) = (caller("anna"), caller("ben"), Caller::default());
        let denying = Guard { policy: policy("Deny", "s3:*"), ..guard() };
        assert!(!may(&denying, &anna, "PutObject", None));
        assert!(may(&denying, &anna, "DeleteBucketPolicy", None), "an owner can always take a policy back");
        assert!(!may(&denying, &ben, "DeleteBucketPolicy", None));
        let open = Guard { policy: policy("Allow", "s3:GetObject"), ..guard() };
        assert!(may(&open, &nobody, "GetObject", None) && !may(&open, &nobody, "PutObject", None));
        let all = Guard { policy: policy("Allow", "*"), ..guard() };
        assert!(may(&all, &ben, "DeleteBucket", None));
        assert!(!may(&all, &ben, "NeverHeardOf", None), "what has no name nobody can have meant");
        let restricted = Guard { block: Block { policies: true, ..Block::default() }, ..open };
        assert!(!may(&restricted, &ben, "GetObject", None) && may(&restricted, &anna, "GetObject", None));
    }

    #[test]
    fn what_a_puts_headers_say_is_asked_for_too() {
        let (anna, ben, facts) = (caller("anna"), caller("ben"), Facts::default());
        let may = |guard: &Guard, caller: &Caller, beside: Beside| {
            let action = Action::of("PutObject", false);
            guard.allows_beside(&Question { caller, action, bucket: "b", key: Some("k"), facts: &facts }, beside)
        };
        let none = Beside::default();
        let (retention, hold) = (Beside { retention: true, ..none }, Beside { hold: true, ..none });
        let (acl, opens) = (Beside { acl: true, ..none }, Beside { acl: true, opens: true, ..none });
        let tags = Beside { tags: true, ..none };
        let puts = Guard { policy: policy("Allow", "s3:PutObject"), ..guard() };
        for beside in [none, retention, hold, acl, opens, tags] {
            assert!(may(&puts, &anna, beside), "the owner: {beside:?}");
        }
        for beside in [retention, hold, opens] {
            assert!(!may(&puts, &ben, beside) && !may(&puts, &Caller::default(), beside), "{beside:?}");
        }
        assert!(may(&puts, &ben, none) && may(&puts, &ben, acl) && may(&puts, &ben, tags));
        let writable = Some(Acl { grants: vec![(Grantee::User("ben".into()), Permission::Write)] });
        let writable = Guard { acl: writable, ..guard() };
        assert!(may(&writable, &ben, opens) && !may(&writable, &ben, retention));
        for (denied, beside) in [
            ("s3:PutObjectAcl", acl),
            ("s3:PutObjectAcl", opens),
            ("s3:PutObjectTagging", tags),
            ("s3:PutObjectRetention", retention),
            ("s3:PutObjectLegalHold", hold),
        ] {
            let denying = Guard { policy: policy("Deny", denied), ..guard() };
            assert!(!may(&denying, &anna, beside) && may(&denying, &anna, none), "{denied}");
        }
    }

    #[test]
    fn a_scope_holds_even_for_the_owner() {
        let reader = Caller { scope: Scope { read_only: true, within: vec![] }, ..caller("anna") };
        assert!(may(&guard(), &reader, "GetObject", None) && !may(&guard(), &reader, "PutObject", None));
        let open = Guard { policy: policy("Allow", "*"), ..guard() };
        assert!(!may(&open, &reader, "PutObject", None));
    }
}
