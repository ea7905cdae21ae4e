import pytest
from pydantic import SecretStr, ValidationError

from edge_client.data_settings import DataSourceSettings, SensorSettings


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"kind": "csv"}, "kind csv needs columns, label"),
        ({"kind": "parquet", "columns": ["a"]}, "kind parquet needs label"),
        ({"kind": "images", "image_size": [8, 8]}, "kind images needs classes"),
        ({"kind": "sensor", "columns": ["a"]}, "kind sensor needs sensor"),
        ({"kind": "images", "classes": ["a"], "image_size": [0, 8]}, "1 to 4096"),
        ({"columns": ["a", "a"]}, "once each"),
        ({"kind": "csv", "columns": ["a"], "targets": ["b", "b"]}, "once each"),
        ({"kind": "csv", "columns": ["a"], "label": "b", "targets": ["c"]}, "take the place of label"),
        ({"kind": "arrays", "targets": ["c"]}, "targets are columns of a table"),
        ({"kind": "csv", "columns": ["a"], "label": "b", "klasses": []}, "klasses"),
    ],
)
def test_kind_says_what_it_lacks(fields: dict[str, object], missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        DataSourceSettings.model_validate(fields)


def test_password_of_the_sensors_broker_does_not_go_to_the_trainers_process() -> None:
    sensor = SensorSettings(topic="a", label_topic="b", username="anna", password=SecretStr("let me in"))
    settings = DataSourceSettings(kind="sensor", columns=("x",), sensor=sensor)
    line = settings.model_dump_json()
    assert "let me in" not in line
    assert DataSourceSettings.model_validate_json(line).columns == ("x",)


def test_settings_survive_the_way_to_the_trainers_process() -> None:
    settings = DataSourceSettings(kind="images", classes=("cat", "dog"), image_size=(8, 8), grey=True)
    assert DataSourceSettings.model_validate_json(settings.model_dump_json()) == settings
