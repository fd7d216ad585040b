//! moto's SQS, EventBridge and CloudFormation: a second opinion on how events get into a queue, which no one here wrote.
//!
//! Must not: use the AWS SDK (the operator does). Invariant: one server serves all tests of a process; each has a queue and
//! an event bus of its own.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::guard::Scratch;
use crate::process::Process;
use crate::servers::repository;
use crate::{port, wait};

/// The first start installs packages.
const READY_WITHIN: Duration = Duration::from_mins(5);
/// The account that moto takes callers for, and the simulator too.
pub const ACCOUNT: &str = "123456789012";
/// The region that suites work in.
pub const REGION: &str = "us-west-2";
/// What the documented rule asks for.
pub const SOURCE: &str = "aws.emr-containers";
/// What the documented rule asks for.
pub const DETAIL_TYPE: &str = "EMR Job Run State Change";

/// A running moto.
pub struct Moto {
    url: String,
    client: reqwest::Client,
    process: Process,
    _scratch: Scratch,
}

/// The one of this test process.
pub async fn shared() -> Result<&'static Moto> {
    static SHARED: OnceCell<Moto> = OnceCell::const_new();
    SHARED.get_or_try_init(Moto::start).await
}

impl Moto {
    async fn start() -> Result<Self> {
        let scratch = Scratch::create("moto-")?;
        let (port, log) = (port::free()?, scratch.path().join("moto.log"));
        let mut command = Command::new("python3");
        command.arg(repository().join("tests/conformance/moto_server.py")).arg(port.to_string());
        let process = Process::spawn("moto", &command, &log)?;
        let url = format!("http://127.0.0.1:{port}");
        let alive = || process.ensure_running();
        wait::http_ok(&format!("{url}/moto-api/data.json"), READY_WITHIN, "moto should answer", alive)
            .await?;
        // Runtimes of tests come and go: a pooled connection would outlive the one that it belongs to.
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
        Ok(Self { url, client, process, _scratch: scratch })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls an operation of a JSON protocol, such as `AmazonSQS.CreateQueue`.
    pub async fn call(&self, target: &str, body: Value) -> Result<Value> {
        let service = if target.starts_with("AmazonSQS") { "sqs" } else { "events" };
        let request = self
            .client
            .post(&self.url)
            .header("X-Amz-Target", target)
            .header("Content-Type", "application/x-amz-json-1.0")
            .header("Authorization", credential(service))
            .body(body.to_string());
        let text = Self::answer(request).await.with_context(|| target.to_owned())?;
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    /// Creates a CloudFormation stack, and gives the text of its description.
    pub async fn create_stack(&self, name: &str, template: &str) -> Result<String> {
        let form = |action: &str, template: Option<&str>| {
            let mut form = vec![("Action", action.to_owned()), ("Version", "2010-05-15".to_owned())];
            form.push(("StackName", name.to_owned()));
            form.extend(template.map(|template| ("TemplateBody", template.to_owned())));
            let pairs: Vec<_> = form.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
            self.client
                .post(&self.url)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .header("Authorization", credential("cloudformation"))
                .body(pairs.join("&"))
        };
        Self::answer(form("CreateStack", Some(template))).await.context("CreateStack")?;
        wait::eventually(READY_WITHIN, "the stack should be complete", async || {
            let text = Self::answer(form("DescribeStacks", None)).await?;
            ensure!(text.contains("CREATE_COMPLETE"), "{text}");
            Ok(Some(text))
        })
        .await
    }

    async fn answer(request: reqwest::RequestBuilder) -> Result<String> {
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "moto answers {status}: {text}");
        Ok(text)
    }

    /// A queue that a rule on a bus of its own fills.
    pub async fn event_queue(&'static self, name: &str) -> Result<EventQueue> {
        self.process.ensure_running()?;
        let name = format!("{name}-{:08x}", rand::random::<u32>());
        let queue = self.call("AmazonSQS.CreateQueue", json!({ "QueueName": name })).await?;
        let url = queue.get("QueueUrl").and_then(Value::as_str).context("a queue has an URL")?.to_owned();
        self.call("AWSEvents.CreateEventBus", json!({ "Name": name })).await?;
        let pattern = json!({ "source": [SOURCE], "detail-type": [DETAIL_TYPE] }).to_string();
        let rule = json!({ "Name": name, "EventBusName": name, "EventPattern": pattern });
        self.call("AWSEvents.PutRule", rule).await?;
        let arn = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}");
        let targets =
            json!({ "Rule": name, "EventBusName": name, "Targets": [{ "Id": "queue", "Arn": arn }] });
        self.call("AWSEvents.PutTargets", targets).await?;
        Ok(EventQueue { moto: self, bus: name, url })
    }
}

/// An event bus, and the queue that a rule puts its events into.
#[derive(Clone)]
pub struct EventQueue {
    moto: &'static Moto,
    bus: String,
    url: String,
}

impl EventQueue {
    /// What `--event-queue-url` takes.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts events with their times and details on the bus, as the service does; ten at most.
    pub async fn put_events(&self, events: &[(Timestamp, Value)]) -> Result<()> {
        let entry = |(at, detail): &(Timestamp, Value)| {
            json!({
                "EventBusName": self.bus, "Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": detail.to_string(),
                "Time": at.as_second(), "Resources": [],
            })
        };
        let entries: Vec<_> = events.iter().map(entry).collect();
        let reply = self.moto.call("AWSEvents.PutEvents", json!({ "Entries": entries })).await?;
        let failed = reply.get("FailedEntryCount").and_then(Value::as_u64);
        ensure!(failed == Some(0), "{reply}");
        Ok(())
    }

    /// Puts a message into the queue past the bus.
    pub async fn send(&self, body: &str) -> Result<()> {
        let message = json!({ "QueueUrl": self.url, "MessageBody": body });
        self.moto.call("AmazonSQS.SendMessage", message).await.map(drop)
    }

    /// How many messages are in it, those that were received and not deleted among them.
    pub async fn len(&self) -> Result<usize> {
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let ask = json!({ "QueueUrl": self.url, "AttributeNames": names });
        let reply = self.moto.call("AmazonSQS.GetQueueAttributes", ask).await?;
        let count = |name: &str| reply.get("Attributes")?.get(name)?.as_str()?.parse::<usize>().ok();
        let counts: Option<Vec<usize>> = names.into_iter().map(count).collect();
        let Some(counts) = counts else { bail!("{reply}") };
        Ok(counts.into_iter().sum())
    }

    /// Deletes the queue.
    pub async fn delete(&self) -> Result<()> {
        self.moto.call("AmazonSQS.DeleteQueue", json!({ "QueueUrl": self.url })).await.map(drop)
    }
}

/// moto reads the service and the region from it, and checks nothing.
fn credential(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}

fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
