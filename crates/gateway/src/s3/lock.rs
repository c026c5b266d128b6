//! Lock versions: until a date, or while a legal hold is on.

use super::{
    fault::fault,
    keys::now_ms,
    objects::Objects,
    time::{millis, timestamp},
    version,
};
use hodei_sdk::{
    change::{Edit, OBJECT_LOCK},
    index::{Lock, Mode, Retention, Settings},
    retain::{Rule, Term},
};
use hodei_types::abi::KEEP_MS_MAX;
use s3s::{
    S3Error, S3ErrorCode, S3Request, S3Response, S3Result,
    dto::{
        DefaultRetention, GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectLockConfigurationInput,
        GetObjectLockConfigurationOutput, GetObjectRetentionInput, GetObjectRetentionOutput, ObjectLockConfiguration,
        ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
        ObjectLockRetentionMode, ObjectLockRule, PutObjectLegalHoldInput, PutObjectLegalHoldOutput,
        PutObjectLockConfigurationInput, PutObjectLockConfigurationOutput, PutObjectRetentionInput,
        PutObjectRetentionOutput, Timestamp,
    },
    s3_error,
};

/// What the ledger's clock and ours may differ by, and what a date is rounded up by where it is kept.
const SLACK_MS: u64 = 24 * 3600 * 1000;

/// A date that is neither over nor, where nobody may ever shorten it, further away than the ledger binds anybody.
fn check(kept: Retention, now_ms: u64) -> S3Result<Retention> {
    if kept.until_ms <= now_ms {
        return Err(s3_error!(InvalidArgument, "The retain until date must be in the future!"));
    }
    if kept.mode == Mode::Compliance && kept.until_ms > now_ms.saturating_add(KEEP_MS_MAX - SLACK_MS) {
        return Err(s3_error!(
            InvalidArgument,
            "The retain until date of compliance is at most 101 years ahead: nobody can take it back."
        ));
    }
    Ok(kept)
}

fn mode(text: &str) -> Option<Mode> {
    match text {
        "GOVERNANCE" => Some(Mode::Governance),
        "COMPLIANCE" => Some(Mode::Compliance),
        _ => None,
    }
}

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Governance => "GOVERNANCE",
        Mode::Compliance => "COMPLIANCE",
    }
}

fn hold(status: &ObjectLockLegalHoldStatus) -> Option<bool> {
    match status.as_str() {
        "ON" => Some(true),
        "OFF" => Some(false),
        _ => None,
    }
}

/// Mode, date and hold as headers of a put have them.
pub(super) fn parse(
    (asked, until, held): (Option<ObjectLockMode>, Option<Timestamp>, Option<ObjectLockLegalHoldStatus>),
    now_ms: u64,
) -> S3Result<Option<Lock>> {
    let retention = match (asked, until) {
        (None, None) => None,
        (Some(asked), Some(until)) => {
            let mode = mode(asked.as_str()).ok_or_else(|| s3_error!(InvalidArgument, "Unknown wormMode directive."))?;
            Some(check(Retention { mode, until_ms: millis(&until) }, now_ms)?)
        }
        _ => {
            return Err(s3_error!(
                InvalidArgument,
                "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied"
            ));
        }
    };
    let hold = match held {
        None => None,
        Some(status) => Some(
            hold(&status).ok_or_else(|| s3_error!(InvalidArgument, "Legal Hold must be either of 'ON' or 'OFF'"))?,
        ),
    };
    Ok(Some(Lock { retention, hold }).filter(|lock| *lock != Lock::default()))
}

/// Mode, date and hold as headers of an answer have them.
pub(super) fn told(
    lock: Option<Lock>,
) -> (Option<ObjectLockMode>, Option<Timestamp>, Option<ObjectLockLegalHoldStatus>) {
    let lock = lock.unwrap_or_default();
    let mode = lock.retention.map(|kept| ObjectLockMode::from_static(name(kept.mode)));
    let until = lock.retention.map(|kept| timestamp(kept.until_ms));
    (mode, until, lock.hold.map(status))
}

fn status(is_on: bool) -> ObjectLockLegalHoldStatus {
    ObjectLockLegalHoldStatus::from_static(if is_on { "ON" } else { "OFF" })
}

fn bad_period() -> S3Error {
    let code = S3ErrorCode::Custom("InvalidRetentionPeriod".into());
    let mut error = S3Error::with_message(code, "Default retention period must be a positive integer value.");
    error.set_status_code(hyper::StatusCode::BAD_REQUEST);
    error
}

fn rule(asked: ObjectLockConfiguration) -> S3Result<Rule> {
    let malformed = |what: &'static str| s3_error!(MalformedXML, "{what}");
    if asked.object_lock_enabled.is_none_or(|enabled| enabled.as_str() != ObjectLockEnabled::ENABLED) {
        return Err(malformed("ObjectLockEnabled is Enabled."));
    }
    let Some(rule) = asked.rule else { return Ok(Rule::default()) };
    let default = rule.default_retention.ok_or_else(|| malformed("A rule has a DefaultRetention."))?;
    let mode = default.mode.and_then(|asked| mode(asked.as_str()));
    let mode = mode.ok_or_else(|| malformed("A mode is GOVERNANCE or COMPLIANCE."))?;
    let positive = |count: i32| u32::try_from(count).ok().filter(|count| *count > 0).ok_or_else(bad_period);
    let term = match (default.days, default.years) {
        (Some(days), None) => Term::Days(positive(days)?),
        (None, Some(years)) => Term::Years(positive(years)?),
        _ => return Err(malformed("A default retention has days or years.")),
    };
    let rule = Rule { default: Some((mode, term)) };
    // Its own reader knows the longest there is.
    rule.to_string().parse::<Rule>().map_err(|_| {
        s3_error!(InvalidArgument, "Default retention period is too large: at most 36500 days or 100 years.")
    })
}

fn configuration(rule: Rule) -> ObjectLockConfiguration {
    let default = rule.default.map(|(mode, term)| {
        let (days, years) = match term {
            Term::Days(days) => (Some(days as i32), None),
            Term::Years(years) => (None, Some(years as i32)),
        };
        DefaultRetention { days, years, mode: Some(ObjectLockRetentionMode::from_static(name(mode))) }
    });
    ObjectLockConfiguration {
        object_lock_enabled: Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED)),
        rule: default.map(|default| ObjectLockRule { default_retention: Some(default) }),
    }
}

/// What S3 says of versions that cannot be locked.
fn lockable(settings: &Settings) -> S3Result<()> {
    match settings.get(OBJECT_LOCK) {
        Some(_) => Ok(()),
        None => Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration")),
    }
}

impl Objects {
    pub(super) async fn lock_rule(
        &self,
        request: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        let settings = self.cloud.settings(&request.input.bucket).await.map_err(fault)?;
        let rule = settings.get(OBJECT_LOCK).ok_or_else(|| {
            s3_error!(ObjectLockConfigurationNotFoundError, "Object Lock configuration does not exist for this bucket")
        })?;
        let rule: Rule = rule.parse().map_err(fault)?;
        Ok(S3Response::new(GetObjectLockConfigurationOutput { object_lock_configuration: Some(configuration(rule)) }))
    }

    pub(super) async fn set_lock_rule(
        &self,
        request: S3Request<PutObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<PutObjectLockConfigurationOutput>> {
        let input = request.input;
        let asked = input.object_lock_configuration;
        let rule = rule(asked.ok_or_else(|| s3_error!(MalformedXML, "A configuration is missing."))?)?;
        self.cloud.set(&input.bucket, OBJECT_LOCK, Some(rule.to_string())).await.map_err(fault)?;
        Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
    }

    pub(super) async fn retention(
        &self,
        request: S3Request<GetObjectRetentionInput>,
    ) -> S3Result<S3Response<GetObjectRetentionOutput>> {
        let input = request.input;
        let found = self.find(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        lockable(&found.settings)?;
        let kept = found.entry.lock.and_then(|lock| lock.retention).ok_or_else(no_lock)?;
        let retention = ObjectLockRetention {
            mode: Some(ObjectLockRetentionMode::from_static(name(kept.mode))),
            retain_until_date: Some(timestamp(kept.until_ms)),
        };
        Ok(S3Response::new(GetObjectRetentionOutput { retention: Some(retention) }))
    }

    pub(super) async fn retain(
        &self,
        request: S3Request<PutObjectRetentionInput>,
    ) -> S3Result<S3Response<PutObjectRetentionOutput>> {
        let input = request.input;
        let version = input.version_id.as_deref().map(version::parse).transpose()?;
        lockable(&*self.cloud.settings(&input.bucket).await.map_err(fault)?)?;
        let asked = input.retention.unwrap_or_default();
        let retention = match (asked.mode, asked.retain_until_date) {
            (None, None) => None,
            (Some(asked), Some(until)) => {
                let mode = mode(asked.as_str())
                    .ok_or_else(|| s3_error!(MalformedXML, "A mode is GOVERNANCE or COMPLIANCE."))?;
                Some(Retention { mode, until_ms: millis(&until) })
            }
            _ => return Err(s3_error!(MalformedXML, "A retention has a mode and a date, or neither.")),
        };
        let retention = retention.map(|kept| check(kept, now_ms())).transpose()?;
        let edit = Edit::Retention { retention, bypass: input.bypass_governance_retention == Some(true) };
        self.cloud.edit(&input.bucket, &input.key, version, edit).await.map_err(fault)?;
        Ok(S3Response::new(PutObjectRetentionOutput::default()))
    }

    pub(super) async fn legal_hold(
        &self,
        request: S3Request<GetObjectLegalHoldInput>,
    ) -> S3Result<S3Response<GetObjectLegalHoldOutput>> {
        let input = request.input;
        let found = self.find(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        lockable(&found.settings)?;
        let is_on = found.entry.lock.and_then(|lock| lock.hold).ok_or_else(no_lock)?;
        let legal_hold = Some(ObjectLockLegalHold { status: Some(status(is_on)) });
        Ok(S3Response::new(GetObjectLegalHoldOutput { legal_hold }))
    }

    pub(super) async fn set_legal_hold(
        &self,
        request: S3Request<PutObjectLegalHoldInput>,
    ) -> S3Result<S3Response<PutObjectLegalHoldOutput>> {
        let input = request.input;
        let version = input.version_id.as_deref().map(version::parse).transpose()?;
        lockable(&*self.cloud.settings(&input.bucket).await.map_err(fault)?)?;
        let asked = input.legal_hold.and_then(|asked| asked.status);
        let is_on =
            asked.as_ref().and_then(hold).ok_or_else(|| s3_error!(MalformedXML, "A legal hold is ON or OFF."))?;
        self.cloud.edit(&input.bucket, &input.key, version, Edit::Hold(is_on)).await.map_err(fault)?;
        Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
    }
}

fn no_lock() -> S3Error {
    s3_error!(NoSuchObjectLockConfiguration, "The specified object does not have a ObjectLock configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(mode: &'static str, days: Option<i32>, years: Option<i32>) -> ObjectLockConfiguration {
        let mode = Some(ObjectLockRetentionMode::from_static(mode));
        ObjectLockConfiguration {
            object_lock_enabled: Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED)),
            rule: Some(ObjectLockRule { default_retention: Some(DefaultRetention { days, years, mode }) }),
        }
    }

    #[test]
    fn a_rule_is_answered_as_it_was_set() {
        for asked in [asked("GOVERNANCE", Some(1), None), asked("COMPLIANCE", None, Some(100))] {
            assert_eq!(configuration(rule(asked.clone()).unwrap()), asked);
        }
        let code = |asked| rule(asked).unwrap_err().code().as_str().to_owned();
        assert_eq!(code(asked("GOVERNANCE", Some(1), Some(1))), "MalformedXML");
        assert_eq!(code(asked("governance", Some(1), None)), "MalformedXML");
        assert_eq!(code(asked("GOVERNANCE", Some(0), None)), "InvalidRetentionPeriod");
        assert_eq!(code(asked("GOVERNANCE", None, Some(-1))), "InvalidRetentionPeriod");
        assert_eq!(code(asked("GOVERNANCE", None, Some(101))), "InvalidArgument");
        assert_eq!(code(asked("COMPLIANCE", Some(36501), None)), "InvalidArgument");
        assert_eq!(
            code(ObjectLockConfiguration { object_lock_enabled: None, ..asked("GOVERNANCE", Some(1), None) }),
            "MalformedXML"
        );
    }

    #[test]
    fn a_lock_is_whole_and_ends_later() {
        let until = || Some(timestamp(2_000_000));
        let mode = || Some(ObjectLockMode::from_static("COMPLIANCE"));
        let lock = parse((mode(), until(), None), 1_000_000).unwrap();
        assert_eq!(
            lock,
            Some(Lock { retention: Some(Retention { mode: Mode::Compliance, until_ms: 2_000_000 }), hold: None })
        );
        assert_eq!(told(lock), (mode(), until(), None));
        assert_eq!(parse((None, None, None), 0).unwrap(), None);
        assert!(parse((mode(), None, None), 0).is_err());
        assert!(parse((None, until(), None), 0).is_err());
        assert!(parse((mode(), until(), None), 2_000_000).is_err(), "over already");
        let day = 24 * 3600 * 1000;
        let longest = || Some(timestamp(KEEP_MS_MAX - day));
        assert!(parse((mode(), longest(), None), 0).is_ok());
        let error = parse((mode(), Some(timestamp(KEEP_MS_MAX)), None), 0).unwrap_err();
        assert_eq!(error.code().as_str(), "InvalidArgument");
        assert!(error.message().unwrap().contains("101 years"));
        let governance = Some(ObjectLockMode::from_static("GOVERNANCE"));
        assert!(parse((governance, Some(timestamp(KEEP_MS_MAX)), None), 0).is_ok(), "it can be taken back");
        assert!(parse((None, None, Some(ObjectLockLegalHoldStatus::from_static("abc"))), 0).is_err());
    }
}
