//! Keep buckets' lifecycle rules, and do what they ask when its time has come.
//!
//! Rules are the bucket's setting `lifecycle`. One task of the gateway, *lifecycle*, looks at buckets that have
//! rules; what it does is an ordinary change of the index, judged on what is there when it is swapped in: an object
//! that was put anew meanwhile stays, a locked version stays, and two gateways that do the same do it once. A day is
//! 24 h and ends at midnight GMT, as at S3; a network with short windows may have it shorter. The header
//! `x-amz-expiration` counts in days of 24 h always, as its readers do.

mod calendar;
mod rules;

use super::{
    fault::fault,
    objects::Objects,
    time::{http_date, timestamp},
};
pub use calendar::Calendar;
use hodei_sdk::{
    Fault,
    change::Removal,
    condition::{Condition, Tag},
    index::{Entry, Settings, Version},
};
use rules::{Act, LIFECYCLE, Rules};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput, GetBucketLifecycleConfigurationInput,
        GetBucketLifecycleConfigurationOutput, PutBucketLifecycleConfigurationInput,
        PutBucketLifecycleConfigurationOutput,
    },
    s3_error,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Buckets whose rules other gateways were given are found this often.
const SEARCH_EVERY: Duration = Duration::from_secs(3600);
/// Versions of one look, and removals asked for at once: they are swapped in together.
const PAGE: usize = 1000;

/// What the gateway knows of lifecycles.
#[derive(Clone, Default)]
pub(super) struct Lifecycles {
    pub(super) calendar: Calendar,
    /// Buckets known to have rules.
    ruled: Arc<Mutex<BTreeSet<String>>>,
}

impl Lifecycles {
    pub(super) fn new(calendar: Calendar) -> Self {
        Self { calendar, ruled: Arc::default() }
    }

    fn note(&self, bucket: &str, has_rules: bool) {
        let mut ruled = self.ruled.lock().unwrap_or_else(PoisonError::into_inner);
        if has_rules {
            ruled.insert(bucket.to_owned());
        } else {
            ruled.remove(bucket);
        }
    }

    fn known(&self) -> Vec<String> {
        self.ruled.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Objects {
    /// Keeps the task *lifecycle* until it is dropped.
    pub async fn keep_lifecycles(self) {
        let mut searched: Option<Instant> = None;
        loop {
            if searched.is_none_or(|at| at.elapsed() >= SEARCH_EVERY) {
                match self.search().await {
                    Ok(()) => searched = Some(Instant::now()),
                    Err(error) => tracing::warn!(%error, "s3: buckets with a lifecycle are not known yet"),
                }
            }
            for bucket in self.lifecycles.known() {
                match self.apply(&bucket, Calendar::now_ms()).await {
                    Ok(0) => {}
                    Ok(done) => tracing::info!(done, "s3: lifecycle applied to a bucket"),
                    Err(Fault::NoBucket(_)) => self.lifecycles.note(&bucket, false),
                    Err(error) => {
                        tracing::warn!(%error, "s3: a bucket's lifecycle was not applied, again at the next look")
                    }
                }
            }
            tokio::time::sleep(self.lifecycles.calendar.every).await;
        }
    }

    async fn search(&self) -> Result<(), Fault> {
        for (record, settings) in self.cloud.buckets_with_settings().await? {
            self.lifecycles.note(&record.name, settings.contains_key(LIFECYCLE));
        }
        Ok(())
    }

    async fn rules(&self, bucket: &str) -> Result<Option<Rules>, Fault> {
        let settings = self.cloud.settings(bucket).await?;
        let Some(document) = settings.get(LIFECYCLE) else { return Ok(None) };
        Rules::read(document).map(Some).map_err(|error| Fault::Index(error.to_string()))
    }

    /// Does what is due in a bucket at `now_ms`; how many versions and uploads that were.
    async fn apply(&self, bucket: &str, now_ms: u64) -> Result<usize, Fault> {
        let Some(rules) = self.rules(bucket).await? else {
            self.lifecycles.note(bucket, false);
            return Ok(0);
        };
        let calendar = self.lifecycles.calendar;
        let is_over = |key: &str, begun_ms: u64| rules.aborts(key, begun_ms, now_ms, &calendar);
        let mut done = self.uploads.abort_those(bucket, is_over);
        let mut after: Option<(String, Option<Version>)> = None;
        // A key's versions may go over a page's end: they are judged once all of them are there.
        let mut key = String::new();
        let mut versions: Vec<Entry> = Vec::new();
        let mut removals = Vec::new();
        loop {
            let from = after.as_ref().map(|(key, version)| (key.as_str(), *version));
            let page = self.cloud.list_versions(bucket, "", from, None, PAGE).await?;
            for one in page.entries {
                if one.key != key {
                    judge(&rules, &key, &versions, now_ms, &calendar, &mut removals);
                    (key, versions) = (one.key, Vec::new());
                }
                versions.push(one.entry);
            }
            after = page.next;
            if after.is_none() {
                judge(&rules, &key, &versions, now_ms, &calendar, &mut removals);
            }
            if after.is_none() || removals.len() >= PAGE {
                done += self.remove_all(bucket, std::mem::take(&mut removals)).await?;
            }
            if after.is_none() {
                return Ok(done);
            }
        }
    }

    async fn remove_all(&self, bucket: &str, removals: Vec<(String, Removal)>) -> Result<usize, Fault> {
        let all = removals.into_iter().map(|(key, removal)| async move {
            match self.cloud.remove_as(bucket, &key, removal).await {
                Ok(_) => Ok(1),
                // Somebody was faster, put it anew, or holds it: the next look judges what is there then.
                Err(
                    Fault::NoObject { .. } | Fault::NoVersion { .. } | Fault::Condition { .. } | Fault::Locked { .. },
                ) => Ok(0),
                Err(error) => Err(error),
            }
        });
        let outcomes = futures::future::join_all(all).await;
        outcomes.into_iter().sum()
    }

    pub(super) async fn put_lifecycle(
        &self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
        let input = request.input;
        let Some(configuration) = input.lifecycle_configuration else {
            return Err(s3_error!(MalformedXML, "The request has no LifecycleConfiguration."));
        };
        let document = Rules::check(configuration.rules)?.document()?;
        self.cloud.set(&input.bucket, LIFECYCLE, Some(document)).await.map_err(fault)?;
        self.lifecycles.note(&input.bucket, true);
        Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
    }

    pub(super) async fn get_lifecycle(
        &self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        let rules = self.rules(&request.input.bucket).await.map_err(fault)?;
        let rules = rules
            .ok_or_else(|| s3_error!(NoSuchLifecycleConfiguration, "The lifecycle configuration does not exist"))?;
        Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
            rules: Some(rules.into_inner()),
            ..GetBucketLifecycleConfigurationOutput::default()
        }))
    }

    pub(super) async fn delete_lifecycle(
        &self,
        request: S3Request<DeleteBucketLifecycleInput>,
    ) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
        let bucket = &request.input.bucket;
        if self.cloud.settings(bucket).await.map_err(fault)?.contains_key(LIFECYCLE) {
            self.cloud.set(bucket, LIFECYCLE, None).await.map_err(fault)?;
        }
        self.lifecycles.note(bucket, false);
        Ok(S3Response::new(DeleteBucketLifecycleOutput::default()))
    }
}

/// The header that foretells when a version goes, and by which rule.
pub(super) fn expiration(settings: &Settings, key: &str, entry: &Entry) -> Option<String> {
    let rules = Rules::read(settings.get(LIFECYCLE)?).ok()?;
    let (due_ms, id) = rules.expires(key, entry, &Calendar::default())?;
    let date = http_date(&timestamp(due_ms));
    // Names of rules are free text, a header's value is not.
    let id: String = id.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').filter(|c| *c != '"').collect();
    Some(format!("expiry-date=\"{date}\", rule-id=\"{id}\""))
}

/// Adds what is to be removed of a key. Each removal holds only for the version that was judged.
fn judge(
    rules: &Rules,
    key: &str,
    versions: &[Entry],
    now_ms: u64,
    calendar: &Calendar,
    removals: &mut Vec<(String, Removal)>,
) {
    for act in rules.due(key, versions, now_ms, calendar) {
        let removal = match (act, versions.first()) {
            (Act::Remove(version), _) => Removal { version: Some(version), ..Removal::default() },
            (Act::Expire, Some(newest)) => {
                let matches = Some(Tag::Is(newest.etag.clone()));
                let modified_secs = Some(newest.modified_ms / 1000);
                Removal {
                    condition: Condition { matches, modified_secs, ..Condition::default() },
                    ..Removal::default()
                }
            }
            (Act::Expire, None) => continue,
        };
        removals.push((key.to_owned(), removal));
    }
}
