//! A job, as people name it.

use anyhow::Context;
use jobq_client::{Client, JobId};
use uuid::Uuid;

use crate::connect::unanswered;

/// What a job is named by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobRef {
    /// The server's number.
    Id(JobId),
    /// What it was submitted under.
    Uuid(Uuid),
}

impl JobRef {
    /// # Errors
    /// It is neither.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(JobId(id)));
        }
        text.parse()
            .map(Self::Uuid)
            .map_err(|_| "it is neither a job's number nor a uuid".to_owned())
    }

    /// What to say when there is no such job.
    pub(super) fn missing(self) -> String {
        let named = match self {
            Self::Id(id) => format!("job {id}"),
            Self::Uuid(uuid) => format!("job of uuid {uuid}"),
        };
        format!("there is no {named}, or its record is no longer kept")
    }

    /// Its number; none if there is no job of its uuid. Whether there is one of its number is not looked up.
    ///
    /// # Errors
    /// No answer in time.
    pub(super) async fn id(self, client: &Client) -> anyhow::Result<Option<JobId>> {
        match self {
            Self::Id(id) => Ok(Some(id)),
            Self::Uuid(uuid) => {
                let view = client.show_uuid(uuid).await.map_err(unanswered);
                let view = view.context("failed to find a job by its uuid")?;
                Ok(view.map(|view| JobId(view.id)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_by_number_or_uuid() {
        assert_eq!(JobRef::parse("7"), Ok(JobRef::Id(JobId(7))));
        let uuid = "019aac5e-6f5b-7c41-b0a5-3d9c7c0d4c11";
        assert_eq!(
            JobRef::parse(uuid),
            Ok(JobRef::Uuid(uuid.parse().expect("it is one")))
        );
        assert!(JobRef::parse("seven").is_err());
    }
}
