//! Receives the hints: events of runs that EventBridge puts into a queue of ours.
//!
//! Decides nothing: what a hint is worth is for the poller, and a message that is no hint is counted and deleted. A message
//! is deleted after it was taken in; one that comes again says nothing new. Invariant: whatever the queue does, runs are
//! observed; a queue that can't be read only makes looks as frequent as they are without one.

use std::sync::Arc;
use std::time::Duration;

use aws_config::Region;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message};
use aws_smithy_types::retry::RetryConfig;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::error::words;
use super::hint::{self, NoHint};
use super::poll::Poller;
use super::poll_hint::Heard;
use super::pool::{Pool, timeouts};
use crate::event_queue::EventQueue;
use crate::health::Work;
use crate::metrics::HintOutcome;

/// The longest that SQS lets a call wait for messages: an idle queue costs three calls a minute.
const WAIT_SECONDS: i32 = 20;
/// The most messages that SQS gives at once.
const BATCH: i32 = 10;
/// A call that waits must have some time beside.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(30);
const DELETE_TIMEOUT: Duration = Duration::from_secs(10);
/// A queue that answers without waiting isn't asked more often than this.
const EMPTY_PAUSE: Duration = Duration::from_secs(1);
/// After a failure the next call is so long away, and twice as long after each further one.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest way to the next call: somebody mends what is wrong, and is seen to have done so within a minute.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// What receives.
pub struct Receiver {
    client: Client,
    queue_url: String,
    pool: Arc<Pool>,
    poller: Poller,
    /// Events of other accounts aren't about our runs.
    account: String,
    deletions: JoinSet<()>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("queue_url", &self.queue_url).finish_non_exhaustive()
    }
}

impl Receiver {
    /// One for a queue, with the pool's credentials. The queue's URL says where SQS is.
    pub fn new(queue: &EventQueue, pool: Arc<Pool>, poller: Poller, account: &str) -> Self {
        let mut builder = aws_sdk_sqs::config::Builder::from(pool.base())
            .endpoint_url(queue.endpoint())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts(RECEIVE_TIMEOUT, RECEIVE_TIMEOUT));
        if let Some(region) = queue.region() {
            builder = builder.region(Region::new(region.to_owned()));
        }
        let client = Client::from_conf(builder.build());
        let queue_url = queue.url().to_owned();
        Self { client, queue_url, pool, poller, account: account.to_owned(), deletions: JoinSet::new() }
    }

    /// Receives for ever; `work` moves with each call that ends.
    pub async fn run(mut self, work: Work) {
        let mut failures = 0_u32;
        loop {
            work.moved();
            let asked = Instant::now();
            match self.receive().await {
                Ok(messages) => {
                    if failures > 0 {
                        tracing::info!("the event queue can be read again");
                    }
                    failures = 0;
                    self.poller.set_hearing(true);
                    if messages.is_empty() {
                        sleep(EMPTY_PAUSE.saturating_sub(asked.elapsed())).await;
                    } else {
                        self.take_in(messages);
                    }
                }
                Err(error) => {
                    self.poller.set_hearing(false);
                    self.pool.config().observer.hint_queue_failed();
                    failures = failures.saturating_add(1);
                    // Once for all that follow: the metric counts them.
                    if failures == 1 {
                        tracing::warn!(
                            queue = self.queue_url,
                            "the event queue can't be read: {error}: check --event-queue-url and the permission \
                             sqs:ReceiveMessage; until then lists alone tell what becomes of runs"
                        );
                    }
                    sleep(backoff(failures)).await;
                }
            }
        }
    }

    async fn receive(&self) -> Result<Vec<Message>, String> {
        let request = self.client.receive_message().queue_url(&self.queue_url);
        let request = request.wait_time_seconds(WAIT_SECONDS).max_number_of_messages(BATCH);
        let reply = Box::pin(request.send()).await;
        reply.map(|reply| reply.messages.unwrap_or_default()).map_err(|error| words(&error))
    }

    fn take_in(&mut self, messages: Vec<Message>) {
        let mut receipts = Vec::with_capacity(messages.len());
        for message in messages {
            let outcome = self.hear(message.body.as_deref().unwrap_or_default());
            self.pool.config().observer.hint(outcome);
            receipts.extend(message.receipt_handle);
        }
        while self.deletions.try_join_next().is_some() {}
        // Not waited for: the next messages are worth more.
        self.deletions.spawn(delete(
            self.client.clone(),
            self.queue_url.clone(),
            receipts,
            Arc::clone(&self.pool),
        ));
    }

    fn hear(&self, body: &str) -> HintOutcome {
        match hint::parse(body, &self.account) {
            Err(NoHint::Unreadable) => HintOutcome::Unreadable,
            Err(NoHint::Foreign) => HintOutcome::Foreign,
            Ok(hint) => match self.poller.hear(&hint) {
                Heard::Moved => HintOutcome::Moved,
                Heard::Ending => HintOutcome::Ending,
                Heard::Known => HintOutcome::Known,
                Heard::Untracked => HintOutcome::Untracked,
            },
        }
    }
}

/// Deletes messages. One that stays comes again, and says nothing new then.
async fn delete(client: Client, queue_url: String, receipts: Vec<String>, pool: Arc<Pool>) {
    let entries = receipts.into_iter().enumerate().filter_map(|(id, receipt)| {
        DeleteMessageBatchRequestEntry::builder().id(id.to_string()).receipt_handle(receipt).build().ok()
    });
    let entries: Vec<_> = entries.collect();
    let request = client.delete_message_batch().queue_url(queue_url).set_entries(Some(entries));
    let reply = tokio::time::timeout(DELETE_TIMEOUT, Box::pin(request.send())).await;
    let problem = match reply {
        Ok(Ok(reply)) if reply.failed.is_empty() => return,
        Ok(Ok(reply)) => format!("{} messages were left", reply.failed.len()),
        Ok(Err(error)) => words(&error),
        Err(_) => format!("no answer within {} s", DELETE_TIMEOUT.as_secs()),
    };
    pool.config().observer.hint_queue_failed();
    tracing::debug!(
        problem,
        "messages of the event queue couldn't be deleted: check the permission sqs:DeleteMessage"
    );
}

fn backoff(failures: u32) -> Duration {
    let exponent = failures.saturating_sub(1).min(16);
    let longest = (BACKOFF * 2_u32.saturating_pow(exponent)).min(LONGEST_BACKOFF);
    longest.mul_f64(1.0 - 0.25 * rand::random::<f64>())
}
