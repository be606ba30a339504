"""A producer and a consumer in another language, for the test of the same name.

foreign.py produce BROKERS TOPIC   writes one record with each compression
foreign.py consume BROKERS TOPIC   prints every committed record as `key value header`
"""

import sys

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

COMPRESSIONS = ["none", "gzip", "snappy", "lz4", "zstd"]


def produce(brokers, topic):
    for compression in COMPRESSIONS:
        producer = Producer({"bootstrap.servers": brokers, "compression.type": compression})
        # Long enough that the compressed form is smaller, or it would be sent as it is.
        producer.produce(topic, key=compression, value=compression * 100, partition=0)
        assert producer.flush(60) == 0


def consume(brokers, topic):
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": topic,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    while (message := consumer.poll(60)) is not None:
        if message.error() is not None:
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            break
        headers = " ".join(f"{name}={value.decode()}" for name, value in message.headers() or [])
        print(message.key().decode(), message.value().decode(), headers)
    consumer.close()


{"produce": produce, "consume": consume}[sys.argv[1]](*sys.argv[2:])
