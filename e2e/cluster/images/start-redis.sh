#!/bin/sh
# A broker for a test, which forgets nothing when its container is started again: a volume at /data that nobody keeps.
exec redis-server --dir /data --appendonly yes --appendfsync always --save '' --bind '* -::*' --protected-mode no
