from edge_client.allotment import READ_SECONDS, Allotment


def test_deadline_ends_it() -> None:
    now = [0.0]
    allotment = Allotment(10.0, None, lambda: None, lambda: now[0])
    assert allotment()
    now[0] = 10.0
    assert not allotment()
    assert allotment.ended_by == "time"


def test_heat_ends_it_for_good_although_the_board_cools() -> None:
    now, heat = [0.0], [70.0]
    allotment = Allotment(100.0, 75.0, lambda: heat[0], lambda: now[0])
    assert allotment()
    now[0], heat[0] = 5.0, 75.5
    assert not allotment()
    now[0], heat[0] = 9.0, 40.0
    assert not allotment()
    assert allotment.ended_by == "heat"


def test_temperature_is_not_read_before_every_step() -> None:
    now, looks = [0.0], [0]

    def celsius() -> float:
        looks[0] += 1
        return 20.0

    allotment = Allotment(1000.0, 75.0, celsius, lambda: now[0])
    for step in range(100):
        now[0] = step * READ_SECONDS / 50
        assert allotment()
    assert looks[0] == 2


def test_board_without_a_sensor_goes_on() -> None:
    allotment = Allotment(10.0, 75.0, lambda: None, lambda: 0.0)
    assert allotment()
