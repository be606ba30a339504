//! What a shard said, as records of the log.

use super::{DetectRoleError, Outputs, restore};
use crate::evaluate::PipelineSet;
use crate::log::{LogError, Outgoing, Session};
use crate::model::detection::Detection;
use crate::roles::{Runtime, send_control, send_partial};
use crate::serve::metrics::Work;

/// Everything a shard said, into the open transaction.
pub(super) fn outputs(
    runtime: &Runtime,
    session: &mut dyn Session,
    number: i32,
    set: &PipelineSet,
    outputs: &Outputs,
    work: &mut Work,
) -> Result<(), DetectRoleError> {
    let pipelines = set.pipelines();
    let partition = Some(number);
    let topic = runtime.topics.windows();
    for row in &outputs.windows {
        let key = serde_json::to_vec(&row.series.to_json()).unwrap_or_default();
        let (key, value) = (Some(key.as_slice()), Some(row.json.as_slice()));
        let headers: &[_] = if row.is_complete { &[] } else { &[("complete", b"false".as_slice())] };
        session.send(Outgoing { topic: &topic, partition, key, value, headers, timestamp_ms: None })?;
    }
    for detection in &outputs.detections {
        send_detection(runtime, session, number, detection)?;
        let told = (detection.pipeline.clone(), detection.rule.clone(), detection.change.name());
        *work.detections.entry(told).or_default() += 1;
    }
    let topic = runtime.topics.baselines();
    for ((place, series), state) in &outputs.states {
        let key = restore::series_key(&pipelines[*place].pipeline.name, series);
        let (key, value) = (Some(key.as_slice()), state.as_deref());
        session.send(Outgoing { topic: &topic, partition, key, value, ..Outgoing::default() })?;
    }
    for (pipeline, series) in &outputs.ended {
        let key = restore::series_key(pipeline, series);
        let key = Some(key.as_slice());
        session.send(Outgoing { topic: &topic, partition, key, ..Outgoing::default() })?;
    }
    let topic = runtime.topics.progress();
    for definition in &outputs.learnt {
        let key = restore::definition_key(&definition.pipeline, &definition.version);
        let value = serde_json::to_vec(definition).map_err(|error| restore::unwritable(number, &error))?;
        let (key, value) = (Some(key.as_slice()), Some(value.as_slice()));
        session.send(Outgoing { topic: &topic, partition, key, value, ..Outgoing::default() })?;
    }
    for (pipeline, version) in &outputs.retired {
        let key = restore::definition_key(pipeline, version);
        let key = Some(key.as_slice());
        session.send(Outgoing { topic: &topic, partition, key, ..Outgoing::default() })?;
    }
    let topic = runtime.topics.partials();
    for (place, states) in &outputs.partials {
        send_partial(session, &topic, &pipelines[*place].plan, states, runtime.partitions, work)?;
    }
    for inhibition in &outputs.inhibitions {
        send_control(session, &topic, "inhibition", inhibition, runtime.partitions)?;
    }
    if !outputs.frontiers.is_empty() {
        send_control(session, &topic, "heartbeats", &outputs.frontiers, runtime.partitions)?;
    }
    Ok(())
}

/// A detection as a CloudEvent in Kafka's binary mode.
fn send_detection(
    runtime: &Runtime,
    session: &mut dyn Session,
    number: i32,
    detection: &Detection,
) -> Result<(), DetectRoleError> {
    let event_id = detection.event_id();
    let source = format!("/maturion/{}", detection.pipeline);
    let time = detection.time();
    let headers = [
        ("ce_specversion", b"1.0".as_slice()),
        ("ce_id", event_id.as_bytes()),
        ("ce_type", detection.change.event_type().as_bytes()),
        ("ce_source", source.as_bytes()),
        ("ce_subject", detection.detection_id.as_bytes()),
        ("ce_time", time.as_bytes()),
        ("content-type", b"application/json".as_slice()),
    ];
    let failed = |error: serde_json::Error| LogError::Failed(format!("a detection cannot be written: {error}"));
    let key = serde_json::to_vec(&detection.series.to_json()).map_err(failed)?;
    let value = serde_json::to_vec(detection).map_err(failed)?;
    session.send(Outgoing {
        topic: &runtime.topics.remediation(),
        partition: Some(number),
        key: Some(&key),
        value: Some(&value),
        headers: &headers,
        timestamp_ms: None,
    })?;
    Ok(())
}
