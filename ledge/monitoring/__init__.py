"""What monitoring shows of a node and its jobs: for root, from ledged's readings.

node.py asks ledged and reads beside it what is of the moment; metrics.py makes metrics of that,
exposition.py the text that node_exporter takes, exporter.py the pages that Prometheus takes;
columns.py, view.py and live.py are condor_ledge top.
"""
