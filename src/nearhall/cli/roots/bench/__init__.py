"""What measures a data plane from outside: test models, a lean load client, interleaved slices, and what may be concluded.

`schedule`, `measured` and `goals` are pure; the rest starts processes, opens sockets and reads /proc.
Used by `nearhall bench` and by the scripts in bench/. A figure here is a ratio of one run, or it is marked as no headline.
"""
